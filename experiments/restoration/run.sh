#!/usr/bin/env bash
# Four tasks at 128 px, sigma_y = 0.05 on [-1, 1], four held-out photographs x 8 noise seeds; about 25 minutes on 2 cores.
#   experiments/restoration/run.sh            then    python experiments/restoration/table.py
# No setting below was chosen on these photographs: tune.sh does that on five training photographs.
set -euo pipefail
cd "$(dirname "$0")/../.."
PATH=".venv/bin:$PATH"
common=(study=restoration data=photos noise.sigma_y=0.05 'seed=range(8)' batch_size=32)
tasks=operator=sr4,deblur_gauss,inpaint_random,inpaint_freeform

rbctrl -m "${common[@]}" operator=sr4 controller=bicubic
rbctrl -m "${common[@]}" operator=deblur_gauss controller=wiener
rbctrl -m "${common[@]}" operator=inpaint_random,inpaint_freeform controller=biharmonic
rbctrl -m "${common[@]}" "$tasks" controller=tv
rbctrl -m "${common[@]}" "$tasks" controller=proximal sampler=renoise sampler.n_steps=30 n_samples=8
rbctrl -m "${common[@]}" "$tasks" controller=rb_modulation_prox sampler=ddpm sampler.n_steps=30 n_samples=8

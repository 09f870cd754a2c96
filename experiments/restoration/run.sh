#!/usr/bin/env bash
# Four tasks at 128 px, sigma_y = 0.05 on [-1, 1], four held-out photographs x 8 noise seeds: about 25 minutes on 2 cores.
#   experiments/restoration/run.sh            then    python experiments/restoration/table.py
# No setting below was chosen on these photographs: tune.sh does that on five training photographs.
set -euo pipefail
cd "$(dirname "$0")/../.."
PATH=".venv/bin:$PATH"
common=(study=restoration data=photos noise.sigma_y=0.05 'seed=range(8)' batch_size=32)
four=operator=sr4,deblur_gauss,inpaint_random,inpaint_freeform

mean_of_8() {
  rbctrl -m "${common[@]}" operator=inpaint_random,inpaint_freeform experiment=tuned_proximal n_samples=8
}
others() {
  rbctrl -m "${common[@]}" operator=sr4 controller=bicubic
  rbctrl -m "${common[@]}" operator=deblur_gauss controller=wiener
  rbctrl -m "${common[@]}" operator=inpaint_random,inpaint_freeform controller=biharmonic
  rbctrl -m "${common[@]}" operator=sr4,deblur_gauss controller=tv controller.weight=0.006
  rbctrl -m "${common[@]}" operator=inpaint_random controller=tv
  rbctrl -m "${common[@]}" operator=inpaint_freeform controller=tv controller.weight=0.04
  rbctrl -m "${common[@]}" operator=sr4,deblur_gauss experiment=tuned_proximal sampler.n_steps=50 sampler.grid.sigma_max=20 n_samples=8
  rbctrl -m "${common[@]}" "$four" experiment=tuned_rb_modulation
  rbctrl -m "${common[@]}" "$four" experiment=tuned_rb_modulation_prox
  rbctrl -m "${common[@]}" "$four" experiment=tuned_dps                # the slowest: about 12 minutes
}
export OMP_NUM_THREADS=1    # two processes on two cores
mean_of_8 & others & wait

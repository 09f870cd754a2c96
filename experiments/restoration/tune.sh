#!/usr/bin/env bash
# The settings of run.sh and of conf/experiment/tuned_*.yaml: chosen on five training photographs, never on the held-out ones.
#   experiments/restoration/tune.sh           then    rbctrl report outputs/tuning
set -euo pipefail
cd "$(dirname "$0")/../.."
PATH=".venv/bin:$PATH"
common=(study=tuning data=photos_train noise.sigma_y=0.05 batch_size=20)
four=operator=sr4,deblur_gauss,inpaint_random,inpaint_freeform
three=operator=sr4,deblur_gauss,inpaint_freeform

classical() {
  rbctrl -m "${common[@]}" operator=sr4 controller=bicubic controller.denoise=0,0.02,0.04,0.08
  rbctrl -m "${common[@]}" operator=deblur_gauss controller=wiener controller.balance=0.01,0.03,0.1
  rbctrl -m "${common[@]}" operator=inpaint_random,inpaint_freeform controller=biharmonic controller.denoise=0,0.02,0.04,0.08
  rbctrl -m "${common[@]}" "$four" controller=tv controller.weight=0.003,0.006,0.01,0.04
}
proximal() {
  rbctrl -m "${common[@]}" "$four" controller=proximal sampler=renoise sampler.n_steps=50 sampler.grid.sigma_max=5,20 n_samples=4
  rbctrl -m "${common[@]}" operator=inpaint_random,inpaint_freeform controller=proximal sampler=renoise \
    sampler.n_steps=100 sampler.grid.sigma_max=5 n_samples=4
}
others() {
  rbctrl -m "${common[@]}" "$three" controller=dps sampler=ddpm sampler.n_steps=100 controller.zeta=1,3,10,30
  rbctrl -m "${common[@]}" "$three" controller=rb_modulation sampler=ddpm sampler.n_steps=50 controller.inner_steps=3,10
  rbctrl -m "${common[@]}" operator=sr4,inpaint_random controller=rb_modulation_prox sampler=ddpm,renoise sampler.n_steps=50 \
    sampler.grid.sigma_max=20 controller.eps=frozen,recomputed
}
export OMP_NUM_THREADS=1    # two processes on two cores
proximal & { classical; others; } & wait

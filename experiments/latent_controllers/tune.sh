#!/usr/bin/env bash
# The settings of run.sh, chosen on five training photographs at 128 px, sigma_y = 0.05: about 40 minutes on one core.
#   experiments/latent_controllers/tune.sh        then        rbctrl report outputs/latent_tuning
set -euo pipefail
cd "$(dirname "$0")/../.."
export PATH=".venv/bin:$PATH" OMP_NUM_THREADS=1
run() { rbctrl -m study=latent_tuning data=photos_train prior=photo_latent noise.sigma_y=0.05 "$@"; }
three=operator=sr4,deblur_gauss,inpaint_freeform
short=(sampler=renoise sampler.n_steps=8 sampler.grid.sigma_max=2 controller.init=forward)

# PSLD: the sampler at 50 steps for super-resolution, then omega and the number of steps for each task.
run operator=sr4 controller=psld sampler=ddpm,renoise sampler.n_steps=50 controller.omega=1,3,10
run operator=sr4 controller=psld sampler=ddpm sampler.n_steps=50 sampler.grid.sigma_max=5 controller.omega=3,5
run operator=sr4 controller=psld sampler=ddim sampler.n_steps=50 sampler.grid.sigma_max=5,80 controller.omega=3
run operator=sr4 controller=psld sampler=ddpm sampler.n_steps=50 sampler.grid.sigma_max=5 controller.omega=3 controller.gamma=1,3
psld=(controller=psld sampler=ddpm sampler.grid.sigma_max=5)
run operator=sr4 "${psld[@]}" sampler.n_steps=100 controller.omega=2,4
run operator=sr4 "${psld[@]}" sampler.n_steps=200 controller.omega=0.7,1.2
run operator=deblur_gauss "${psld[@]}" sampler.n_steps=100 controller.omega=0.2,0.5,1,2
run operator=inpaint_freeform "${psld[@]}" sampler.n_steps=100 controller.omega=0.5,1,2
run operator=inpaint_freeform "${psld[@]}" sampler.n_steps=50 controller.omega=1,2
run operator=deblur_gauss "${psld[@]}" sampler.n_steps=50 controller.omega=0.5,1
run operator=deblur_gauss "${psld[@]}" sampler.n_steps=200 controller.omega=0.25
run operator=inpaint_freeform "${psld[@]}" sampler.n_steps=200 controller.omega=0.5
run operator=inpaint_freeform "${psld[@]}" sampler.n_steps=400 controller.omega=0.25

# RB-Modulation in latent space: many steps from noise, and few from the encoded measurement.
run operator=sr4,deblur_gauss controller=rb_modulation_latent sampler=renoise sampler.n_steps=20 \
  sampler.grid.sigma_max=5,20 controller.inner_steps=2,4 controller.strength=0.3,1
run "$three" controller=rb_modulation_latent "${short[@]}" controller.inner_steps=2
run operator=inpaint_freeform controller=rb_modulation_latent sampler=renoise sampler.n_steps=8 \
  sampler.grid.sigma_max=5,20 controller.inner_steps=2
run operator=inpaint_freeform controller=rb_modulation_latent sampler=renoise sampler.n_steps=20 \
  sampler.grid.sigma_max=20 controller.inner_steps=4
latent=(controller=rb_modulation_latent sampler=renoise)
run "$three" "${latent[@]}" sampler.n_steps=12 sampler.grid.sigma_max=5,20 controller.inner_steps=3
run "$three" "${latent[@]}" sampler.n_steps=8 sampler.grid.sigma_max=5 controller.inner_steps=4
run "$three" "${latent[@]}" sampler.n_steps=5,6 sampler.grid.sigma_max=5 controller.inner_steps=3
run "$three" "${latent[@]}" sampler.n_steps=5 sampler.grid.sigma_max=5 controller.inner_steps=4
run operator=sr4,deblur_gauss controller=rb_modulation_encode sampler=renoise sampler.n_steps=20 \
  sampler.grid.sigma_max=5 controller.strength=0.3,1,3
run "$three" controller=rb_modulation_encode "${short[@]}" controller.strength=0.3,1,3
run "$three" controller=rb_modulation_encode "${short[@]}" sampler=ddim controller.strength=0.3,1,3
run operator=sr4 controller=rb_modulation_encode "${short[@]}" controller.strength=6
run operator=deblur_gauss controller=rb_modulation_encode "${short[@]}" controller.strength=0.1
run operator=inpaint_freeform controller=rb_modulation_encode sampler=renoise sampler.n_steps=12,20 \
  sampler.grid.sigma_max=20 controller.strength=1

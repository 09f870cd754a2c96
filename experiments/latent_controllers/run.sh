#!/usr/bin/env bash
# Latent controllers on photo_latent, three tasks at 128 px, sigma_y = 0.05 on [-1, 1], four held-out photographs x 2 noise
# seeds: about 50 minutes on one core.
#   experiments/latent_controllers/run.sh      then      python experiments/latent_controllers/table.py
# Settings: tune.sh chose those of psld and of both forms of RB-Modulation on training photographs. dps, gml_dps and p2l take
# psld's step size and sampler; stsl spends psld's control in 25 steps of 2; resample is at its defaults but for shorter fits.
set -euo pipefail
cd "$(dirname "$0")/../.."
export PATH=".venv/bin:$PATH" OMP_NUM_THREADS=1
run() {
  rbctrl -m --config-dir experiments/latent_controllers/conf study=latent_controllers data=photos prior=photo_latent \
    noise.sigma_y=0.05 'seed=range(2)' batch_size=16 operator=$task "$@"
}
task=sr4; run controller=bicubic prior=photo
grid=(sampler=ddpm sampler.n_steps=100 sampler.grid.sigma_max=5)
for task in sr4 deblur_gauss inpaint_freeform; do
  declare -A omegas=([sr4]=2 [deblur_gauss]=0.5 [inpaint_freeform]=1) strengths=([sr4]=3 [deblur_gauss]=0.3 [inpaint_freeform]=1)
  omega=${omegas[$task]} strength=${strengths[$task]}
  # The two that are compared for time take turns within one sweep: seed 0 of both, then seed 1 of both.
  run experiment=latent_psld_$task,latent_rb_modulation n_samples=4
  run experiment=latent_rb_modulation controller=rb_modulation_encode controller.init=forward controller.strength=$strength \
    '~controller.inner_steps' n_samples=4
  run controller=dps controller.zeta=$omega "${grid[@]}"
  run controller=gml_dps controller.omega=$omega "${grid[@]}"
  run controller=p2l controller.inner_steps=0 controller.rho=$omega "${grid[@]}"
  run controller=stsl controller.inner_steps=2 controller.weight=$(python3 -c "print(2 * $omega)") sampler=ddim \
    sampler.n_steps=25 sampler.grid.sigma_max=5
  run controller=resample controller.pixel_fit=pinv controller.latent_steps=50 sampler=ddim sampler.n_steps=100
done

#!/usr/bin/env bash
# Latent controllers on photo_latent, three tasks at 128 px, sigma_y = 0.05 on [-1, 1], four held-out photographs x 2 noise
# seeds: 75 minutes on two busy cores. Started twice, the two share the work.
#   experiments/latent_controllers/run.sh      then      run.sh speed      and      run.sh memory
#   python experiments/latent_controllers/table.py
# Settings: tune.sh chose those of psld and of both forms of RB-Modulation on training photographs. dps, gml_dps and p2l take
# psld's step size at 100 steps; stsl spends that control in 25 steps of 2; resample is at its defaults but for shorter fits.
set -euo pipefail
cd "$(dirname "$0")/../.."
export PATH=".venv/bin:$PATH" OMP_NUM_THREADS=1
run() {
  rbctrl -m --config-dir experiments/latent_controllers/conf data=photos prior=photo_latent noise.sigma_y=0.05 \
    'seed=range(2)' batch_size=16 operator=$task study=latent_controllers "$@"
}
compared() {
  local samples=4
  if [ $task = inpaint_freeform ]; then samples=2; fi  # PSLD takes 400 steps there
  run experiment=latent_psld_$task,latent_rb_modulation,latent_rb_modulation_fast_$task n_samples=$samples
}
others() {
  local omega=$1 strength=$2 fit=$3 grid=(sampler=ddpm sampler.n_steps=100 sampler.grid.sigma_max=5)
  run controller=rb_modulation_encode controller.init=forward controller.strength=$strength sampler=renoise \
    sampler.n_steps=8 sampler.grid.sigma_max=2
  run controller=dps controller.zeta=$omega "${grid[@]}"
  run controller=gml_dps controller.omega=$omega "${grid[@]}"
  run controller=p2l controller.inner_steps=0 controller.rho=$omega "${grid[@]}"
  run controller=stsl controller.inner_steps=2 controller.weight=$(python3 -c "print(2 * $omega)") sampler=ddim \
    sampler.n_steps=25 sampler.grid.sigma_max=5
  run controller=resample controller.pixel_fit=$fit controller.latent_steps=50 sampler=ddim sampler.n_steps=100
}
# Peak memory is that of a process, so each controller gets one of its own; three steps show it.
memory() {
  rbctrl study=latent_memory data=photos prior=photo_latent operator=sr4 batch_size=4 sampler.n_steps=3 "$@"
}
if [ "${1:-}" = memory ]; then
  memory controller=none
  for name in dps gml_dps psld stsl rb_modulation_latent rb_modulation_encode; do memory controller=$name; done
  memory controller=p2l controller.inner_steps=0
  memory controller=resample controller.pixel_fit=pinv controller.latent_steps=5 sampler=ddim
  exit
fi
# The methods whose times are compared take turns in one process: 6 minutes.
if [ "${1:-}" = speed ]; then
  for task in sr4 deblur_gauss inpaint_freeform; do
    rbctrl -m --config-dir experiments/latent_controllers/conf data=photos prior=photo_latent noise.sigma_y=0.05 batch_size=4 \
      operator=$task study=latent_speed experiment=latent_psld_$task,latent_rb_modulation_fast_$task,latent_rb_modulation
  done
  exit
fi
tasks=${1:-sr4 deblur_gauss inpaint_freeform}
for task in $tasks; do
  compared
done
for task in $tasks; do
  case $task in
    sr4) run controller=bicubic prior=photo; others 2 3 pinv ;;
    deblur_gauss) others 0.5 0.3 released ;;  # by AdamW: the pseudo-inverse of a blur amplifies noise
    inpaint_freeform) others 1 1 pinv ;;
  esac
done

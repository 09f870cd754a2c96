#!/usr/bin/env bash
# The settings of run.sh: those of the grid below with the best mean PSNR on two training photographs, never the held-out ones.
# Of phase retrieval the best of 2 restarts counts, by the residual. About 4 minutes of one core, here on two.
#   experiments/nonlinear/tune.sh        then    python experiments/nonlinear/table.py outputs/nonlinear_tuning --tuning
set -euo pipefail
cd "$(dirname "$0")/../.."
PATH=".venv/bin:$PATH"
export OMP_NUM_THREADS=1
common=(study=nonlinear_tuning data=photos_train 'data.names=[china,camera]' data.size=64 noise.sigma_y=0.05 metrics=best_of)

grid() {
  rbctrl -m "${common[@]}" "$@" controller=red_diff cost=gaussian_nll cost.sigma_y=1 sampler.n_steps=100 \
    controller.weight=0.06,0.25,1
  rbctrl -m "${common[@]}" "$@" controller=rb_modulation sampler=ddpm sampler.n_steps=50 controller.inner_steps=3,10
  rbctrl -m "${common[@]}" "$@" controller=daps controller.tau=null controller.n_ode=2 controller.langevin_steps=30 \
    sampler=renoise sampler.n_steps=50 controller.lr=0.0001,0.0003,0.001
  rbctrl -m "${common[@]}" "$@" controller=dps sampler=ddpm sampler.n_steps=100 controller.zeta=0.1,0.3,1,3
}
grid operator=phase_retrieval,phase_retrieval_signed n_samples=2 &
grid operator=hdr,jpeg,gamma_blur &
wait

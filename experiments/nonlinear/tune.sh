#!/usr/bin/env bash
# The settings of run.sh: the grid below, chosen by PSNR on three training photographs, never on the held-out ones. Of phase
# retrieval the best of 2 restarts counts, by the residual. About 4 minutes of one core.
#   experiments/nonlinear/tune.sh             then    python experiments/nonlinear/table.py outputs/nonlinear_tuning --tuning
set -euo pipefail
cd "$(dirname "$0")/../.."
PATH=".venv/bin:$PATH"
export OMP_NUM_THREADS=1
common=(study=nonlinear_tuning data=photos_train 'data.names=[china,grace_hopper,camera]' data.size=64 noise.sigma_y=0.05
        batch_size=12 metrics=best_of)

for task in "operator=hdr,jpeg,gamma_blur" "operator=phase_retrieval n_samples=2"; do
  # shellcheck disable=SC2086  # two words
  rbctrl -m "${common[@]}" $task controller=dps sampler=ddpm sampler.n_steps=100 controller.zeta=1,3,10
  # shellcheck disable=SC2086
  rbctrl -m "${common[@]}" $task controller=rb_modulation sampler=ddpm sampler.n_steps=50 controller.inner_steps=3,10 \
    controller.lr=0.03,0.1
  # shellcheck disable=SC2086
  rbctrl -m "${common[@]}" $task controller=daps controller.tau=null controller.n_ode=2 controller.langevin_steps=30 \
    sampler=renoise sampler.n_steps=50 controller.lr=0.0001,0.0003,0.001
  # shellcheck disable=SC2086
  rbctrl -m "${common[@]}" $task controller=red_diff cost=gaussian_nll cost.sigma_y=1 sampler.n_steps=100 \
    controller.weight=0.06,0.25,1
done

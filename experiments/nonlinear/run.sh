#!/usr/bin/env bash
# Four non-linear measurements at 64 px (phase retrieval on both ranges), sigma_y = 0.05, the four held-out photographs. About
# 4 minutes of one core; here on two.
#   experiments/nonlinear/run.sh              then    python experiments/nonlinear/table.py
# No setting below was chosen on these photographs: tune.sh does that on two training photographs.
set -euo pipefail
cd "$(dirname "$0")/../.."
PATH=".venv/bin:$PATH"
export OMP_NUM_THREADS=1
common=(study=nonlinear data=photos data.size=64 noise.sigma_y=0.05 batch_size=16 metrics=best_of)
dps=(controller=dps sampler=ddpm sampler.n_steps=100)
rb=(controller=rb_modulation sampler=ddpm sampler.n_steps=50)
daps=(controller=daps controller.tau=null controller.n_ode=2 controller.langevin_steps=30 sampler=renoise sampler.n_steps=50)
red=(controller=red_diff cost=gaussian_nll cost.sigma_y=1 sampler.n_steps=100)

single() {
  run() { rbctrl -m "${common[@]}" "$@"; }
  run operator=hdr,jpeg,gamma_blur controller=guess
  run operator=hdr,jpeg controller=guidance sampler.n_steps=100
  run operator=hdr,jpeg,gamma_blur "${rb[@]}" controller.inner_steps=3
  run operator=hdr,gamma_blur "${daps[@]}" controller.lr=0.0003
  run operator=jpeg "${daps[@]}" controller.lr=0.0001
  run operator=hdr,jpeg "${red[@]}" controller.weight=1
  run operator=gamma_blur "${red[@]}" controller.weight=0.06
  run operator=hdr "${dps[@]}" controller.zeta=0.3
  run operator=jpeg,gamma_blur "${dps[@]}" controller.zeta=1
}
restarts() {
  run() { rbctrl -m "${common[@]}" n_samples=4 "$@"; }
  run operator=phase_retrieval,phase_retrieval_signed controller=hio controller.steps=300
  run operator=phase_retrieval "${rb[@]}" controller.inner_steps=10
  run operator=phase_retrieval_signed "${rb[@]}" controller.inner_steps=3
  run operator=phase_retrieval "${daps[@]}" controller.lr=0.0003
  run operator=phase_retrieval_signed "${daps[@]}" controller.lr=0.0001
  run operator=phase_retrieval,phase_retrieval_signed "${red[@]}" controller.weight=0.06
  run operator=phase_retrieval "${dps[@]}" controller.zeta=3
  run operator=phase_retrieval_signed "${dps[@]}" controller.zeta=1
}
single & restarts & wait

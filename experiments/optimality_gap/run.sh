#!/usr/bin/env bash
# Excess over the optimal control on the three modes in the plane, at 25 to 400 steps: about 2 minutes on one core.
#   experiments/optimality_gap/run.sh         then    python experiments/optimality_gap/table.py
# 2000 truths from the prior with one measurement and one path each (1000 for shooting). Settings are the defaults of the
# options but for the words below; none was tuned here.
set -euo pipefail
cd "$(dirname "$0")/../.."
export PATH=".venv/bin:$PATH" OMP_NUM_THREADS=1
run() {
  nice -n 10 rbctrl -m study=optimality_gap experiment=gmm_doob metrics=control '~metrics.control_error_posterior' n_samples=1 "$@"
}
steps=sampler.n_steps=25,50,100,200,400
many=(data.n=2000 batch_size=2000)
few=(data.n=1000 batch_size=1000)

run "${many[@]}" $steps controller=doob,none,guidance,moment_matching,rb_modulation,rb_modulation_prox,rb_modulation_exact
run "${many[@]}" $steps controller=dps controller.zeta=0.3,0.03
run "${few[@]}" $steps controller=shooting cost=gaussian_nll controller.horizon=4
run "${few[@]}" sampler.n_steps=100 controller=shooting cost=gaussian_nll controller.horizon=16

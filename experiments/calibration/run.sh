#!/usr/bin/env bash
# Coverage and ranks of every controller on two priors whose truths are known: about 10 minutes on one core.
#   experiments/calibration/run.sh            then    python experiments/calibration/table.py
# Every controller is at the defaults of its option but for the words below; no setting was tuned here.
set -euo pipefail
cd "$(dirname "$0")/../.."
export PATH=".venv/bin:$PATH" OMP_NUM_THREADS=1
run() { nice -n 10 rbctrl -m --config-dir experiments/calibration/conf keep=means "$@"; }
both=experiment=calibration_gmm2d,calibration_patches
renoise=(sampler=renoise sampler/grid=log_snr sampler.start=marginal)

run $both controller=exact_posterior,doob,none,dps,window,guidance,proximal
run $both controller=moment_matching controller.max_steps=1   # one step of conjugate gradient, as its authors take
run $both controller=rb_modulation,rb_modulation_prox,rb_modulation_exact,tds
run $both controller=mcgdiff controller.particles=16
run $both controller=ddnm,ddnm_plus,ddrm "${renoise[@]}" sampler.eta=0.85
run $both controller=diffpir "${renoise[@]}" sampler.eta=1

# Slower ones: fewer truths, steps or samples.
run experiment=calibration_gmm2d controller=moment_matching_dense,particles
run experiment=calibration_patches controller=moment_matching_dense,particles data.n=120   # a VJP for each of 12 measurements
for world in calibration_gmm2d calibration_patches; do
  run experiment=$world controller=daps data.n=120 n_samples=20 sampler=renoise sampler.grid.sigma_max=100 \
    sampler.grid.sigma_min=0.106 sampler.n_steps=50 controller.langevin_steps=30 controller.tau=null controller.lr=0.01
  run experiment=$world controller=shooting data.n=120 n_samples=20 sampler.n_steps=25 cost=gaussian_nll \
    controller.horizon=2
done

# Point estimates: red_diff 20 times, for its noise moves it a little; the classical ones once. Those that refuse stay out.
run $both controller=red_diff n_samples=20 cost=gaussian_nll cost.sigma_y=1
run $both controller=pinv n_samples=1
run experiment=calibration_patches controller=bicubic,wiener,tv n_samples=1

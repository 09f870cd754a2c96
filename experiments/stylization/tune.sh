#!/usr/bin/env bash
# Settings of experiments/stylization, chosen on pairs of another seed (data.seed=1), never on those of run.sh; then
#   python experiments/stylization/table.py outputs/stylization_tuning --out experiments/stylization/tuning.csv
set -euo pipefail
cd "$(dirname "$0")/../.."
PATH=".venv/bin:$PATH"
export OMP_NUM_THREADS=1
PAIRS=${PAIRS:-32}
common=(experiment=shapes_style study=stylization_tuning data.seed=1 data.n="$PAIRS" n_samples=1)
soc=(controller=window controller@controller.controller=rb_modulation)
rbctrl -m experiment=shapes_style study=stylization_guidance data=shapes_descriptions data.seed=1 data.n="$PAIRS" data.split=seen \
  attention=none controller=none prior.guidance.scale=1.5,2,3 prior.guidance.rescale=0,0.7
rbctrl -m "${common[@]}" attention=none controller=none
rbctrl -m "${common[@]}" attention=none "${soc[@]}" controller.controller.lr=0.03,0.1 controller.end=0.6,1.0
rbctrl -m "${common[@]}" attention=afa attention.style=item attention.rule=released,paper attention.strength=0.5,1 controller=none
rbctrl -m "${common[@]}" attention=afa attention.style=item "${soc[@]}" controller.controller.lr=0.03,0.1 controller.end=0.6,1.0
rbctrl -m "${common[@]}" attention=concat attention.style=item controller=none

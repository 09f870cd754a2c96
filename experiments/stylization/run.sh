#!/usr/bin/env bash
# Style from a reference picture on the shipped `shapes` prior: references whose palette has no name, prompts that contradict their
# content. PAIRS pairs, SAMPLES noises each, the same for every method.
#   experiments/stylization/run.sh [methods|strength|strokes|composition|words]      then    python experiments/stylization/table.py
# No setting below was chosen on these pairs: tune.sh does that on others.
set -euo pipefail
cd "$(dirname "$0")/../.."
PATH=".venv/bin:$PATH"
export OMP_NUM_THREADS=1
PAIRS=${PAIRS:-256} SAMPLES=${SAMPLES:-4}
common=(experiment=shapes_style data.n="$PAIRS" n_samples="$SAMPLES")
item=(attention.style=item)
window=(controller=window controller@controller.controller=rb_modulation controller.end=0.6)
soc=("${window[@]}" controller.controller.lr=0.03)

run() { rbctrl -m "${common[@]}" "$@"; }
methods() {   # the axes attention and controller; without and with words for texture and background
  for described in ${WORDS:-false true}; do
    { run data.described=$described attention=none controller=none
      run data.described=$described attention=concat,afa "${item[@]}" controller=none; } &
    run data.described=$described attention=none "${soc[@]}"
    run data.described=$described attention=afa "${item[@]}" "${soc[@]}"
    wait
  done
}
strength() {  # style against leakage along the main setting of each method
  run study=stylization_strength attention=afa "${item[@]}" attention.strength=0.25,0.5,0.75,1 controller=none &
  run study=stylization_strength attention=none "${window[@]}" controller.controller.lr=0.01,0.03,0.1,0.3
  run study=stylization_strength attention=afa "${item[@]}" "${window[@]}" controller.controller.lr=0.01,0.03,0.1,0.3
  wait
}
strokes() {   # references drawn as by a hand, which no training has seen
  run study=stylization_strokes data.brush=strokes attention=none controller=none
  run study=stylization_strokes data.brush=strokes attention=afa "${item[@]}" "${soc[@]}"
}
composition() {  # a subject of one picture in the style of another, at a place that the prompt names
  run study=stylization_composition data=shapes_compositions attention=none controller=none
  run study=stylization_composition data=shapes_compositions attention=concat,afa "${item[@]}" attention.content=item controller=none
  run study=stylization_composition data=shapes_compositions attention=afa "${item[@]}" attention.content=item "${soc[@]}"
}
words() {     # what words alone do: combinations of named styles that training has and has not seen
  run study=stylization_words data=shapes_descriptions data.split=seen,held_out metrics=shapes_prompt attention=none controller=none
}
if [ $# -eq 0 ]; then set -- words methods strength strokes composition; fi
for part in "$@"; do "$part"; done

"""`rbctrl --help`: usage, verbs, groups and their options, examples."""

from __future__ import annotations

import shutil
import textwrap

from rbctrl.commands.groups import groups

VERBS = {
    "report": "DIR... [--by a,b] [--metric a,b] [--latex FILE]: tables, differences, plots and an HTML page of results",
    "plan": "[-m] [key=a,b ...] [--offline]: the cells of a sweep, their evaluations and time, and what cannot work",
    "status": "DIR: what of a study is done, running, failed and missing, and how long it will take",
    "score": "DIR... metrics=OPTION [metrics.key=value ...]: more metrics for finished cells, without sampling",
    "train": "[photo|codec|latent] [key=value ...]: train a network of the shipped priors (conf/train*.yaml)",
    "tune": "controller=a,b operator=x,y [--trials 20]: the same search for every controller; writes presets",
    "list": "[group]: the configuration groups, or the options of one group",
    "show": "[key=value ...]: the composed configuration, without running it",
    "check": "operator=my_lab.fog.Fog ...: does a part of your own keep its contract?",
    "stylize": '--style FILE --prompt "..." [--content FILE] [key=value ...]: an image of a text in a picture\'s style',
    "draw": "operator=... data=... --out=FILE.npz: the masks or kernels that a run would draw, for operator.file",
    "help": "this text",
}
EXAMPLES = {
    "rbctrl": "one photograph, one controller: CPU, seconds, no download",
    "rbctrl operator=inpaint_box controller=dps noise.sigma_y=0.1": "another problem, another method",
    "rbctrl data=folder data.path=me.jpg operator=deblur_gauss": "your own image",
    "rbctrl -m study=first controller=dps,proximal 'seed=range(3)'": "a sweep: 2 x 3 cells",
    "rbctrl report outputs/first --by controller": "its table and picture",
}
USAGE = """\
usage: rbctrl [key=value ...]           run one cell
       rbctrl -m [key=a,b ...]          run every combination
       rbctrl VERB ...                  {verbs}
"""
FLAGS = """\
Hydra's flags work too: -m, --cfg job, --info, --config-dir DIR (your own options), --hydra-help.
RBCTRL_TRACEBACK=1 in the environment shows where an error comes from.
"""


def help_text() -> str:
    """The help of the command line."""
    width = min(shutil.get_terminal_size((110, 24)).columns, 120)
    verbs = "\n".join(_entry(f"rbctrl {verb}", text, 16, width) for verb, text in VERBS.items())
    listed = "\n".join(_entry(group, ", ".join(names), 16, width) for group, names in groups().items())
    examples = "\n".join(f"  {command}\n      {why}" for command, why in EXAMPLES.items())
    usage = USAGE.format(verbs=", ".join(VERBS))
    title = "groups (group=option, group.key=value)"
    return f"{usage}\nverbs\n{verbs}\n\n{title}\n{listed}\n\nexamples\n{examples}\n\n{FLAGS}"


def run(args: list[str]) -> int:
    """Prints the help."""
    print(help_text())
    return 0


def _entry(name: str, text: str, column: int, width: int) -> str:
    first, rest = f"  {name:<{column}}", " " * (column + 2)
    return textwrap.fill(text, width, initial_indent=first, subsequent_indent=rest, break_long_words=False)

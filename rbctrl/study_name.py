"""The name of a study is a folder below outputs/, or a path of such: ablation, paper/table1."""

from __future__ import annotations


def check_study(name: object) -> None:
    """Refuses what would put results elsewhere, or where they are not found again.

    Raises:
        ValueError: no name, a path that is absolute or leads upwards, outputs/latest, or what no file system takes.
    """
    if not isinstance(name, str) or not name.strip():
        raise ValueError(f"study={'' if name is None else name} is no name: study=NAME puts results into outputs/NAME")
    parts = name.split("/")
    if parts[0] == "latest":
        raise ValueError(f"study={name}: outputs/latest points to the newest run: take another name")
    if any(part in ("", ".", "..") for part in parts):
        raise ValueError(f"study={name} leaves outputs/: take a name such as ablation or paper/table1")
    if any(len(part.encode()) > 200 for part in parts) or not name.isprintable():
        raise ValueError(f"study={name[:40]!r}... is too long for a folder, or cannot be printed: take another name")

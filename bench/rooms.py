"""The import graph of the packages: ``python -m bench.rooms [--modules]``.

A room is a folder of modules. A module that lies beside rooms at the top of the library is a room
by itself. A room's floor is the longest chain of imports below it; rooms that import each other in
a circle share one floor. Imports at run time, and those with the imports for types only
(``if TYPE_CHECKING``), are counted apart: a circle of the first kind can break an import.

It reads the packages of the folder that it is started in, so that it also measures other checkouts.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping

import grimp
from rich.console import Console
from rich.table import Table

PACKAGES = ("dreamontage", "flows", "db", "storage")
LIBRARY = "dreamontage"

Graph = Mapping[str, frozenset[str]]


def modules(*, types: bool) -> Graph:
    """Each module, and the modules of ours that it imports.

    Args:
        types: with the imports that only type checkers see.
    """
    graph = grimp.build_graph(*PACKAGES, exclude_type_checking_imports=not types, cache_dir=None)
    return {
        module: frozenset(graph.find_modules_directly_imported_by(module))
        for module in graph.modules
    }


def rooms(graph: Graph) -> Graph:
    """Rooms, and the rooms that they import. A package's ``__init__`` is part of its folder."""
    folders = {module.rpartition(".")[0] for module in graph} - {""}

    def room_of(module: str) -> str:
        folder = module.rpartition(".")[0]
        return module if module in folders or folder in ("", LIBRARY) else folder

    found: defaultdict[str, set[str]] = defaultdict(set)
    for module, imported in graph.items():
        room = room_of(module)
        found[room] |= {room_of(each) for each in imported} - {room}
    return {room: frozenset(imported) for room, imported in found.items()}


def circles(graph: Graph) -> list[frozenset[str]]:
    """The strongly connected components of more than one node, the largest first (Tarjan)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    on_stack: set[str] = set()
    found: list[frozenset[str]] = []
    for start in graph:
        if start in index:
            continue
        work = [(start, iter(sorted(graph[start])))]
        while work:
            node, children = work[-1]
            if node not in index:
                index[node] = low[node] = len(index)
                stack.append(node)
                on_stack.add(node)
            for child in children:
                if child not in index:
                    work.append((child, iter(sorted(graph[child]))))
                    break
                if child in on_stack:
                    low[node] = min(low[node], index[child])
            else:
                work.pop()
                if work:
                    parent = work[-1][0]
                    low[parent] = min(low[parent], low[node])
                if low[node] == index[node]:
                    cut = stack.index(node)
                    component = frozenset(stack[cut:])
                    del stack[cut:]
                    on_stack -= component
                    if len(component) > 1:
                        found.append(component)
    return sorted(found, key=lambda each: (-len(each), sorted(each)))


def floors(graph: Graph) -> dict[str, int]:
    """A node's floor: 0 without imports, else one above the highest that it imports."""
    group = {node: circle for circle in circles(graph) for node in circle}
    known: dict[str, int] = {}

    def floor(node: str) -> int:
        if node not in known:
            together = group.get(node, frozenset({node}))
            below = {child for each in together for child in graph[each]} - together
            height = max((floor(child) + 1 for child in below), default=0)
            known.update(dict.fromkeys(together, height))
        return known[node]

    return {node: floor(node) for node in graph}


def listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.rooms", description=__doc__)
    parser.add_argument("--modules", action="store_true", help="print circles of modules in full")
    options = parser.parse_args()
    sys.path.insert(0, "")  # this folder's packages, also where this file is run by its path
    console = Console(width=130)
    graphs = {kind: modules(types=kind == "with types") for kind in ("run time", "with types")}
    summary = Table(
        "imports", "modules", "rooms", "floors", "circles of rooms", "circles of modules"
    )
    for kind, graph in graphs.items():
        of_rooms = rooms(graph)
        summary.add_row(
            kind,
            str(len(graph)),
            str(len(of_rooms)),
            str(1 + max(floors(of_rooms).values())),
            str(len(circles(of_rooms))),
            str(len(circles(graph))),
        )
    console.print(summary)
    of_rooms = rooms(graphs["with types"])
    heights = floors(of_rooms)
    shown = Table("floor", "room", "imports")
    for room in sorted(of_rooms, key=lambda each: (-heights[each], each)):
        shown.add_row(str(heights[room]), room, listed(of_rooms[room]))
    console.print(shown)
    for circle in circles(of_rooms):
        console.print(f"circle of rooms: {listed(circle)}")
    if options.modules:
        for circle in circles(graphs["with types"]):
            console.print(f"circle of modules: {listed(circle)}")


if __name__ == "__main__":
    main()

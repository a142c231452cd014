"""Which branches of a tree are one vessel, and which are large."""

from __future__ import annotations

from near_monai.trees.rooted_tree import Branch, RootedTree

#: What follows a fork is a large vessel if it is at least so long, in mm, with all its branches.
LARGE_MM = 25.0


def extent(tree: RootedTree, number: int) -> float:
    """Mm of branch ``number`` and everything behind it."""
    behind = sum(extent(tree, child.id) for child in tree.children(number))
    return tree.branches[number].length + behind


def large_children(tree: RootedTree, number: int) -> list[Branch]:
    """The large vessels after branch ``number``."""
    return [child for child in tree.children(number) if extent(tree, child.id) >= LARGE_MM]


def trunk_of(tree: RootedTree) -> list[int]:
    """Branches from the root to the first fork into several large vessels."""
    trunk = [0]
    while len(large := large_children(tree, trunk[-1])) == 1:
        trunk.append(large[0].id)
    return trunk


def first_fork(tree: RootedTree) -> float:
    """Mm from the root to the first fork into several large vessels; infinite if there is none."""
    trunk = trunk_of(tree)
    if not large_children(tree, trunk[-1]):
        return float("inf")
    return sum(tree.branches[number].length for number in trunk)


def vessel(tree: RootedTree, first: int) -> list[int]:
    """Branch ``first`` and those that go on its vessel."""
    found = [first]
    while after := [child.id for child in tree.children(found[-1]) if child.goes_on]:
        found.append(after[0])
    return found


def side_branches(tree: RootedTree, own: list[int]) -> list[tuple[float, int]]:
    """What leaves the vessel ``own``: mm from its beginning, and the first branch, in their order."""
    found, along = [], 0.0
    for number in own:
        along += tree.branches[number].length
        found += [(along, child.id) for child in tree.children(number) if child.id not in own]
    return sorted(found)

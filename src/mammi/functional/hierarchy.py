"""Steps in an is-a hierarchy: nodes with any number of parents, cycles allowed.

Rada, Mili, Bicknell and Blettner, Development and application of a metric on semantic nets, IEEE SMC 19(1), 1989 (path
length); Wu and Palmer, Verb semantics and lexical selection, ACL 1994 (similarity, their section 4.1).
"""

from collections.abc import Callable, Iterable

__all__ = ["path_length", "steps_up", "wu_palmer"]

#: The direct parents of a node; nothing for a root.
Parents = Callable[[str], Iterable[str]]


def steps_up(node: str, parents: Parents) -> dict[str, int]:
    """Return every ancestor of ``node``, itself included, with the fewest is-a steps up to it.

    >>> steps_up("a", {"a": ["b", "c"], "b": ["c"], "c": ["a"]}.__getitem__)
    {'a': 0, 'b': 1, 'c': 1}
    """
    steps = {node: 0}
    front = [node]
    while front:
        above = []
        for child in front:
            for parent in parents(child):
                if parent not in steps:
                    steps[parent] = steps[child] + 1
                    above.append(parent)
        front = above
    return steps


def path_length(one: str, other: str, parents: Parents) -> int | None:
    """Return the fewest is-a steps from ``one`` up to a shared ancestor and down to ``other``; None if they share none.

    Notes:
        Paths that go down to a shared descendant and up again, which a graph with several parents also has and Rada et
        al. do not exclude, are not counted: two things are not close because something is both.
    """
    up, also = steps_up(one, parents), steps_up(other, parents)
    return min((up[node] + also[node] for node in up.keys() & also.keys()), default=None)


def wu_palmer(one: str, other: str, parents: Parents) -> float:
    r"""Return the similarity :math:`2 N_3 / (N_1 + N_2 + 2 N_3)`, in [0, 1]; 0 without a shared ancestor.

    :math:`N_1, N_2` are the steps up to a shared ancestor and :math:`N_3` the nodes on the shortest way from it up to a
    root, both ends counted; with several shared ancestors the one that gives most. In a cycle without a root
    :math:`N_3 = 1`.
    """
    up, also = steps_up(one, parents), steps_up(other, parents)
    best = 0.0
    for node in up.keys() & also.keys():
        above = steps_up(node, parents)
        depth = 1 + min((steps for root, steps in above.items() if not list(parents(root))), default=0)
        best = max(best, 2 * depth / (up[node] + also[node] + 2 * depth))
    return best

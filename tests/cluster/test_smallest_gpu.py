"""The smallest GPU out of what nodes say of theirs."""

from raylab.cluster.smallest_gpu import smallest


def node(*memories):
    return {"devices": [{"name": "card", "memory": memory} for memory in memories]}


def test_smallest_of_unlike_nodes_is_the_least_of_all():
    assert smallest([node(80, 40), node(24), node()]) == 24


def test_smallest_without_any_gpu_is_unknown():
    assert smallest([node(), node()]) is None
    assert smallest([]) is None

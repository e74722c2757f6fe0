"""Which cells a sweep has, in which order, and where their records are."""

from sweep.cells import Cell, base_of, cells_of, measured_servers, order_of, record_path

CONFIG = {
    "servers": ["a", "b", "c"],
    "control": None,
    "workloads": ["keepalive"],
    "connections": [1, 10, 100],
    "repeats": 4,
    "seed": 1,
}


def test_a_sweep_has_every_combination_once() -> None:
    cells = cells_of(CONFIG)
    assert len(cells) == len(set(cells)) == 36
    assert len({record_path(cell) for cell in cells}) == 36


def test_repeats_are_blocks() -> None:
    order = sorted(order_of(CONFIG).items(), key=lambda item: item[1])
    assert [position for _, position in order] == list(range(36))
    assert [cell.repeat for cell, _ in order] == sorted(cell.repeat for cell, _ in order)


def test_blocks_are_shuffled_differently_and_again_the_same() -> None:
    order = order_of(CONFIG)
    blocks = [
        sorted(cells_of(CONFIG, repeat=repeat), key=order.__getitem__) for repeat in range(1, 5)
    ]
    sequences = [[(cell.server, cell.connections) for cell in block] for block in blocks]
    assert len({tuple(sequence) for sequence in sequences}) == 4
    assert order == order_of(CONFIG)
    assert order != order_of({**CONFIG, "seed": 2})


def test_order_depends_on_what_is_measured_and_not_on_how_it_is_listed() -> None:
    assert order_of(CONFIG) == order_of({**CONFIG, "servers": ["c", "a", "b"]})


def test_cell_names_itself() -> None:
    assert str(Cell("a", 10, 2)) == "a, 10 connections, repeat 2"
    assert str(Cell("a", 10, 2, "mine")) == "a, mine, 10 connections, repeat 2"


def test_control_is_measured_like_any_other_server_under_a_name_of_its_own() -> None:
    config = {**CONFIG, "control": "b"}
    assert measured_servers(config) == ["a", "b", "c", "b_control"]
    assert len(cells_of(config)) == 48
    assert base_of("b_control") == base_of("b") == "b"
    assert measured_servers({**CONFIG, "control": "not_measured"}) == ["a", "b", "c"]

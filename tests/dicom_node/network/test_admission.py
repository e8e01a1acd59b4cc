"""Numbers that several processes share say who has how much."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from dicom_node.network.admission import Held, Load, Memory

SEATS, PROCESSES = 5, 3
ADDRESSES, TITLES = ["10.0.0.1", "10.0.0.2", "2001:db8::1"], ["CT1", "CT2"]


@given(
    st.lists(
        st.tuples(
            st.integers(0, PROCESSES - 1), st.sampled_from(ADDRESSES), st.sampled_from(TITLES), st.booleans()
        ),
        max_size=60,
    )
)
def test_what_all_processes_hold_is_what_they_took_and_did_not_give_back(
    acts: list[tuple[int, str, str, bool]],
) -> None:
    shared = Load.shared(SEATS, PROCESSES)
    loads = [Load(SEATS, shared, own) for own in range(PROCESSES)]
    held: list[tuple[int, int, str, str]] = []
    for process, address, title, ends in acts:
        mine = [one for one in held if one[0] == process]
        if ends and mine:
            held.remove(mine[0])
            loads[process].leave(mine[0][1])
        else:
            seat = loads[process].sit(address, title)
            assert (seat is None) == (len(mine) == SEATS)
            held += [] if seat is None else [(process, seat, address, title)]
    addresses, titles = Counter(a for *_, a, _ in held), Counter(t for *_, t in held)
    for load in loads:
        for address in ADDRESSES:
            for title in TITLES:
                assert load.held(address, title) == Held(len(held), addresses[address], titles[title])


def test_a_process_that_was_killed_holds_nothing_once_it_is_forgotten() -> None:
    shared = Load.shared(SEATS, 2)
    first, second = Load(SEATS, shared, 0), Load(SEATS, shared, 1)
    for load in (first, second):
        load.sit("10.0.0.1", "CT1")
        load.wait(7)
    Load.clear(shared, SEATS, 0)
    assert second.held("10.0.0.1", "CT1") == Held(1, 1, 1)
    assert (first.ahead, second.ahead) == (False, True)


def test_a_process_is_ahead_of_those_with_fewer_connections_that_wait_or_are_associated() -> None:
    shared = Load.shared(SEATS, 2)
    first, second = Load(SEATS, shared, 0), Load(SEATS, shared, 1)
    seen = [(first.ahead, second.ahead)]
    first.wait(1)
    seen.append((first.ahead, second.ahead))
    second.sit("10.0.0.1", "CT1")
    seen.append((first.ahead, second.ahead))
    second.wait(1)
    seen.append((first.ahead, second.ahead))
    assert seen == [(False, False), (True, False), (False, False), (False, True)]


def test_an_ipv6_network_is_one_host_and_a_mapped_address_is_the_one_it_maps() -> None:
    load = Load(SEATS)
    load.sit("2001:db8:0:1::1", "CT1")
    load.sit("::ffff:10.0.0.1", "CT1")
    assert load.held("2001:db8:0:1:ffff::2", "").of_address == 1
    assert load.held("2001:db8:0:2::1", "").of_address == 0
    assert load.held("10.0.0.1", "").of_address == 1


@given(st.lists(st.integers(0, 50), max_size=50))
def test_no_more_memory_is_held_than_the_limit(sizes: list[int]) -> None:
    memory, held = Memory(100), 0
    for size in sizes:
        if memory.take(size):
            held += size
        assert held <= 100
    memory.give(held)
    assert memory.take(100)

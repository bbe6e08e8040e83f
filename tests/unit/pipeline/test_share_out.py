"""Who gets which task: equal shares, as few moves as that allows, disks that know a task before others."""

from hypothesis import given
from hypothesis import strategies as st

from service.adapters.kafka.assignor import Member, share_out

TASKS = st.integers(0, 24)


@st.composite
def groups(draw: st.DrawFn) -> tuple[int, dict[str, Member]]:
    """A group after anything: tasks run at most once, disks remember whatever they like, even tasks that are gone."""
    tasks = draw(TASKS)
    names = draw(st.lists(st.sampled_from("abcdef"), unique=True, min_size=1))
    runs_at = draw(st.lists(st.sampled_from([*names, ""]), min_size=tasks, max_size=tasks))
    known = st.frozensets(st.integers(0, tasks + 3))
    return tasks, {
        f"member-{name}": Member(name, frozenset(i for i, at in enumerate(runs_at) if at == name), draw(known))
        for name in names
    }


@given(groups())
def test_every_task_has_one_owner_and_shares_are_equal(group: tuple[int, dict[str, Member]]) -> None:
    tasks, members = group
    shares = share_out(tasks, members)
    assert shares.keys() == members.keys()
    assert sorted(task for share in shares.values() for task in share) == list(range(tasks))
    sizes = [len(share) for share in shares.values()]
    assert max(sizes) - min(sizes) <= 1
    assert all(share == sorted(share) for share in shares.values())


@given(groups())
def test_as_few_tasks_move_as_equal_shares_allow(group: tuple[int, dict[str, Member]]) -> None:
    tasks, members = group
    shares = share_out(tasks, members)
    running = {name: member.running & set(range(tasks)) for name, member in members.items()}
    stayed = sum(len(running[name].intersection(share)) for name, share in shares.items())
    least, extra = divmod(tasks, len(members))
    # the extra places go to those who can use them: that is the most that can stay
    spare = sum(len(tasks_of) > least for tasks_of in running.values())
    assert stayed == sum(min(len(tasks_of), least) for tasks_of in running.values()) + min(spare, extra)


@given(groups())
def test_a_second_look_changes_nothing(group: tuple[int, dict[str, Member]]) -> None:
    tasks, members = group
    shares = share_out(tasks, members)
    settled = {name: Member(member.instance, frozenset(shares[name])) for name, member in members.items()}
    assert share_out(tasks, settled) == shares


@given(groups())
def test_the_order_in_which_members_are_named_does_not_matter(group: tuple[int, dict[str, Member]]) -> None:
    tasks, members = group
    turned = dict(reversed(members.items()))
    assert share_out(tasks, turned) == share_out(tasks, members)


def test_a_task_goes_to_the_disk_that_knows_it() -> None:
    members = {
        "1": Member("a", frozenset(), frozenset({2, 3})),
        "2": Member("b", frozenset(), frozenset({0, 1})),
    }
    assert share_out(4, members) == {"1": [2, 3], "2": [0, 1]}


def test_a_task_stays_where_it_runs_even_if_another_disk_knows_it() -> None:
    members = {
        "1": Member("a", frozenset({0, 1}), frozenset()),
        "2": Member("b", frozenset({2, 3}), frozenset({0, 1, 2, 3})),
    }
    assert share_out(4, members) == {"1": [0, 1], "2": [2, 3]}


#   before   a: 0 1 2 3   b: -
#   after    a: 0 1       b: 2 3     b's disk knows 3


def test_a_newcomer_gets_its_share_and_no_more() -> None:
    members = {"1": Member("a", frozenset(range(4))), "2": Member("b", frozenset(), frozenset({3}))}
    shares = share_out(4, members)
    assert (shares["1"], shares["2"]) == ([0, 1], [2, 3])


def test_what_a_lost_member_ran_is_shared_by_the_others() -> None:
    members = {"1": Member("a", frozenset({0, 1})), "2": Member("b", frozenset({2, 3}))}
    assert share_out(6, members) == {"1": [0, 1, 4], "2": [2, 3, 5]}


def test_more_members_than_tasks_leaves_some_idle() -> None:
    shares = share_out(1, {name: Member(name) for name in ("1", "2", "3")})
    assert sorted(map(len, shares.values())) == [0, 0, 1]

"""The queue on virtual time: times are exact."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelwright_operator.control.queue import WorkQueue
from modelwright_operator.plan.types import Key
from tests.unit.control.virtual_time import now, run


def key(name="a", namespace="ns"):
    return Key("InferenceModel", namespace, name)


def make():
    return WorkQueue(jitter=lambda: 0.0)


async def next_within(queue, seconds):
    """The next key and when it came, or None."""
    try:
        async with asyncio.timeout(seconds):
            return await queue.get(), now()
    except TimeoutError:
        return None


def virtual(test):
    """Run an async test on virtual time."""

    def wrapper():
        run(test())

    return wrapper


@virtual
async def test_key_added_many_times_is_given_once():
    queue = make()
    for _ in range(5):
        queue.add(key())
    assert queue.depth() == 1
    assert await queue.get() == key()
    assert await next_within(queue, 1000) is None


@virtual
async def test_key_is_never_given_twice_at_a_time():
    queue = make()
    queue.add(key())
    await queue.get()
    queue.add(key())
    assert await next_within(queue, 1000) is None
    queue.finish(key(), None)
    assert (await next_within(queue, 1000))[0] == key()


@virtual
async def test_news_during_a_pass_gives_another_pass_however_long_the_pass_wants_to_rest():
    queue = make()
    queue.add(key())
    await queue.get()
    queue.add(key())
    queue.finish(key(), 3600.0)
    assert await next_within(queue, 1000) == (key(), pytest.approx(0.1))


@virtual
async def test_finished_key_comes_back_when_it_wants_to():
    queue = make()
    queue.add(key())
    await queue.get()
    queue.finish(key(), 15.0)
    assert await next_within(queue, 1000) == (key(), pytest.approx(15.0))
    queue.finish(key(), None)
    assert await next_within(queue, 10_000) is None


@virtual
async def test_news_cuts_a_rest_short():
    queue = make()
    queue.add(key())
    await queue.get()
    queue.finish(key(), 3600.0)
    await asyncio.sleep(5)
    queue.add(key())
    assert await next_within(queue, 1) == (key(), 5.0)


@virtual
async def test_earlier_of_two_wishes_counts():
    queue = make()
    queue.add_after(key(), 50)
    queue.add_after(key(), 10)
    queue.add_after(key(), 30)
    assert queue.delayed() == 1
    assert await next_within(queue, 1000) == (key(), 10.0)


@virtual
async def test_failing_key_comes_back_after_growing_pauses_up_to_a_cap():
    queue = make()
    queue.add(key())
    pauses = []
    for _ in range(8):
        await queue.get()
        pauses.append(queue.fail(key()))
    assert pauses == [1, 2, 4, 8, 16, 30, 30, 30]


@virtual
async def test_success_ends_the_growing():
    queue = make()
    queue.add(key())
    for _ in range(4):
        await queue.get()
        queue.fail(key())
    await queue.get()
    queue.finish(key(), 0.0)
    await queue.get()
    assert queue.fail(key()) == 1


@virtual
async def test_pause_the_server_asked_for_is_kept():
    queue = make()
    queue.add(key())
    await queue.get()
    assert queue.fail(key(), at_least_seconds=20) == 20
    assert await next_within(queue, 1000) == (key(), pytest.approx(20.0))


@virtual
async def test_news_cuts_a_failing_keys_pause_but_not_below_a_second():
    queue = make()
    queue.add(key())
    for _ in range(5):
        await queue.get()
        queue.fail(key())
    started = now()
    queue.add(key())
    assert await next_within(queue, 1000) == (key(), pytest.approx(started + 1.0))


@virtual
async def test_key_that_wakes_itself_over_and_over_gets_one_pass_a_second():
    queue = make()
    queue.add(key())
    passes = 0
    while now() < 60:
        await queue.get()
        passes += 1
        queue.add(key())
        queue.finish(key(), None)
    assert 60 < passes <= 30 + 60 + 2


@virtual
async def test_namespaces_take_turns():
    queue = make()
    for number in range(4):
        queue.add(key(f"busy-{number}", "busy"))
    queue.add(key("quiet", "quiet"))
    order = [(await queue.get()).name for _ in range(5)]
    assert order == ["busy-0", "quiet", "busy-1", "busy-2", "busy-3"]


@virtual
async def test_age_is_that_of_the_key_that_waits_longest():
    queue = make()
    assert queue.oldest_seconds() == 0
    queue.add(key("a", "one"))
    await asyncio.sleep(3)
    queue.add(key("b", "two"))
    await asyncio.sleep(4)
    assert queue.oldest_seconds() == 7
    await queue.get()
    assert queue.oldest_seconds() == 4


@virtual
async def test_closed_queue_sends_its_workers_home_and_takes_nothing():
    queue = make()
    queue.add_after(key("later"), 5)
    waiting = [asyncio.create_task(queue.get()) for _ in range(3)]
    await asyncio.sleep(0)
    queue.close(3)
    assert await asyncio.gather(*waiting) == [None, None, None]
    queue.add(key())
    assert queue.depth() == 0


@virtual
async def test_pass_that_ends_after_closing_is_not_scheduled_again():
    queue = make()
    queue.add(key())
    await queue.get()
    queue.close(1)
    queue.finish(key(), 1.0)
    assert queue.delayed() == 0


@virtual
async def test_keys_of_long_gone_objects_do_not_pile_up():
    queue = make()
    for number in range(10_500):
        queue.add(key(str(number)))
        await queue.get()
        queue.finish(key(str(number)), None)
    assert len(queue._entries) < 10_001


_STEPS = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "c"]),
        st.floats(0, 5),  # how long to wait before the news
        st.floats(0, 3),  # how long the pass takes
        st.one_of(st.none(), st.floats(0, 20), st.just("fail")),
    ),
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(_STEPS, st.integers(1, 3))
def test_property_every_news_is_followed_by_a_pass_and_passes_of_a_key_never_overlap(steps, count):
    async def scenario():
        queue = make()
        active, started_at, news_at = set(), {}, {}
        outcome = {}

        async def work():
            while (taken := await queue.get()) is not None:
                assert taken not in active
                active.add(taken)
                started_at[taken] = now()
                seconds, ending = outcome.get(taken, (0.0, None))
                await asyncio.sleep(seconds)
                active.remove(taken)
                if ending == "fail":
                    outcome[taken] = (seconds, None)
                    queue.fail(taken)
                else:
                    outcome[taken] = (seconds, None)
                    queue.finish(taken, ending)

        workers = [asyncio.create_task(work()) for _ in range(count)]
        for name, wait, seconds, ending in steps:
            await asyncio.sleep(wait)
            outcome[key(name)] = (seconds, ending)
            news_at[key(name)] = now()
            queue.add(key(name))
        await asyncio.sleep(300)
        for item, at in news_at.items():
            assert started_at[item] >= at
        queue.close(count)
        await asyncio.gather(*workers)

    run(scenario())

"""What a stage wants started, who takes over, when its budget ends: without processes, by the attributes alone."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from pipeline.memory.stage_stats import STATS_BYTES, StageStats, Word
from pipeline.status import Encoding, Usage
from pipeline.supervised_stage import BACKOFF, FAILED, READY, STARTING, Life, SupervisedStage
from pipeline.topology_file import load_topology

DEMO = Path(__file__).resolve().parents[1] / "configs/demo.yaml"
REAL, STAND_IN, NOTHING = False, True, None


@pytest.fixture
def make_stage(slab_fd):
    def make(name="inference", seats=1, **settings):
        topology = load_topology(DEMO, settings)
        return SupervisedStage(name, name, topology, [StageStats(slab_fd(STATS_BYTES)) for _ in range(seats)])

    return make


def live(stage, *, stands_in=False, ready=True):
    """A process of the stage, as far as the stage looks at it."""
    stage.incarnation += 1
    boot = SimpleNamespace(incarnation=stage.incarnation)
    process = SimpleNamespace(pid=stage.incarnation, boot=boot, usage=lambda: Usage(1.5, 1000, 2, 30))
    stats = stage.stats.seats[stage.free_seat()]
    stats.beat()
    life = Life(process, stats, stage.generation, stands_in=stands_in)
    life.ready = ready
    stage.lives.append(life)
    return life


def test_one_process_is_enough_where_nothing_else_is_said(make_stage):
    stage = make_stage("egress")
    assert (stage.wants(), stage.state) == (REAL, BACKOFF)
    stage.active = live(stage, ready=False)
    assert (stage.wants(), stage.state) == (NOTHING, STARTING)
    stage.active.ready = True
    assert (stage.wants(), stage.state) == (NOTHING, READY)


def test_a_stage_whose_model_was_loaded_once_was_not_wrong_from_the_start(make_stage):
    stage = make_stage()
    assert stage.is_new
    stage.has_loaded = True
    assert not stage.is_new


def test_spares_are_started_once_one_is_at_work(make_stage):
    stage = make_stage(seats=3, **{"stages.inference.spares": 2})
    first = live(stage, ready=False)
    assert stage.wants() is NOTHING
    first.ready, stage.active = True, first
    assert stage.wants() is REAL
    live(stage, ready=False)
    assert stage.wants() is REAL
    live(stage, ready=False)
    assert stage.wants() is NOTHING
    assert stage.status().spares == 0
    stage.lives[1].ready = True
    assert stage.status().spares == 1


def test_a_stand_in_comes_after_the_first_real_process(make_stage):
    stage = make_stage(seats=2, **{"stages.inference.while_away": "pass_through"})
    assert stage.wants() is REAL
    live(stage, ready=False)
    assert stage.wants() is STAND_IN
    live(stage, stands_in=True)
    assert stage.wants() is NOTHING


def test_a_real_process_is_preferred_to_a_stand_in(make_stage):
    stage = make_stage(seats=2)
    assert stage.next_active() is None
    stand_in = live(stage, stands_in=True)
    assert stage.next_active() is stand_in
    loading = live(stage, ready=False)
    assert stage.next_active() is stand_in
    loading.ready = True
    assert stage.next_active() is loading


def test_passing_through_is_not_being_ready(make_stage):
    stage = make_stage(seats=2)
    stage.active = live(stage, stands_in=True)
    assert stage.state == BACKOFF
    live(stage, ready=False)
    assert stage.state == STARTING
    assert stage.status().passing_through


def test_a_stage_that_was_given_up_is_over_when_nobody_stands_in_for_it_any_more(make_stage):
    stage = make_stage(seats=2)
    stage.active = live(stage, stands_in=True)
    stage.outcome = FAILED
    assert not stage.over
    stage.bury(stage.active)
    assert stage.over
    assert stage.active is None


def test_the_budget_ends_and_can_be_forgiven(make_stage):
    stage = make_stage(**{"restart.max_restarts": 3, "restart.window": 60, "restart.backoff": 0.1})
    assert [stage.next_backoff(now) for now in (0, 1, 2, 3)] == [0.0, 0.1, 0.2, None]
    stage.exhausted, stage.outcome = True, FAILED
    assert stage.wants() is NOTHING
    stage.forgive()
    assert stage.wants() is REAL
    assert stage.next_backoff(4) == 0.0


def test_deaths_long_ago_do_not_count(make_stage):
    stage = make_stage(**{"restart.max_restarts": 1, "restart.window": 10})
    assert stage.next_backoff(0) == 0.0
    assert stage.next_backoff(11) == 0.0
    assert stage.next_backoff(12) is None


def test_what_the_dead_have_used_is_not_forgotten(make_stage):
    stage = make_stage(seats=2)
    dead = live(stage)
    stage.bury(dead)
    live(stage)
    stage.sample_usage(1.0)
    assert stage.usage == Usage(3.0, 1000, 2, 30)


def test_a_death_is_over_when_the_stage_is_at_work_and_seen_to_be_over_when_it_hands_something_on(make_stage):
    stage = make_stage(seats=2)
    stage.active = live(stage)
    stage.active.stats.out()
    last_out = stage.stats[Word.LAST_OUT_NS]
    stage.recovery.lost(last_out + 10**9, last_out)
    stage.bury(stage.active)
    stage.time_recovery(last_out + 2 * 10**9)
    assert (stage.status().recovery.total, stage.status().output_gap.total) == (0, 0)

    stage.active = live(stage, stands_in=True)
    stage.active.stats.clear_life()
    stage.active.stats.out()
    stage.time_recovery(last_out + 3 * 10**9)
    assert (stage.status().recovery.total, stage.status().output_gap.total) == (0, 1), "a stand-in is seen"

    stage.active.stands_in = False
    stage.time_recovery(last_out + 4 * 10**9)
    assert (stage.status().recovery.total, stage.status().recovery.sum_s) == (1, 3.0)


def test_an_encoder_is_told_of_where_there_is_one(make_stage):
    stage = make_stage("egress")
    stage.stats.seats[0][Word.BITRATE] = 900_000
    assert stage.status().encoding == Encoding(1_500_000, 900_000, 0)
    assert make_stage("decode").status().encoding is None
    assert make_stage("egress", **{"stages.egress.encoder": {"crf": 23}}).status().encoding.wanted == 0


def test_rates_are_those_of_late(make_stage):
    stage = make_stage()
    life = live(stage)
    life.stats.add(Word.UNITS_IN, 60)
    stage.sample_usage(2.0)
    assert stage.status().rate_in == 30
    stage.sample_usage(2.0)
    assert stage.status().rate_in == 0


@pytest.mark.parametrize(
    ("setting", "guilt"),
    [
        ({"limits.heartbeat": 1}, "no heartbeat for 1 s"),
        ({"limits.progress": 2}, "busy without progress for 2 s"),
        ({"limits.heartbeat": 500, "stages.inference.limits": {"heartbeat": 1.5}}, "no heartbeat for 1.5 s"),
    ],
)
def test_a_process_that_shows_no_life_is_guilty(make_stage, setting, guilt):
    stage = make_stage(**setting)
    life = live(stage)
    life.stats.busy()
    now = life.stats[Word.HEARTBEAT_NS]
    assert life.hang(stage.limits, now) is None
    if "progress" in guilt:
        life.stats[Word.HEARTBEAT_NS] = now + 3 * 10**9
    assert life.hang(stage.limits, now + 3 * 10**9) == guilt


def test_a_process_that_waits_for_its_turn_is_not_hanging(make_stage):
    stage = make_stage()
    life = live(stage)
    assert life.hang(stage.limits, life.stats[Word.HEARTBEAT_NS] + 10**9) is None


def test_spares_that_were_given_up_are_not_started_again_before_a_person_asks(make_stage):
    stage = make_stage(seats=2, **{"stages.inference.spares": 1})
    stage.active = live(stage)
    assert stage.wants() is REAL
    stage.no_spares = True
    assert stage.wants() is NOTHING
    stage.forgive()
    assert stage.wants() is REAL


def test_a_renewed_stage_wants_one_process_of_the_new_kind_beside_the_old(make_stage):
    stage = make_stage(seats=4, **{"stages.inference.spares": 1})
    stage.active = old = live(stage)
    live(stage)
    assert stage.wants() is NOTHING
    stage.generation += 1
    assert (stage.wants(), stage.renewing) == (REAL, True)
    new = live(stage, ready=False)
    assert (stage.wants(), stage.next_active()) == (NOTHING, old)
    new.ready = True
    assert stage.next_active() is new
    stage.active = new
    assert (stage.wants(), stage.renewing) == (REAL, False), "now a spare of the new kind"

from __future__ import annotations

import pytest
from tests.fixtures.beating_sites import exchange_of, view_of

from steppe.sites.beats.exchange import Exchange, OwnBeats
from steppe.sites.beats.fields import SiteMessageError
from steppe.sites.beats.message import read_beat
from steppe.sites.beats.peers import BeatSettings, Health
from steppe.sites.beats.sender import begins


@pytest.fixture
def hohhot() -> Exchange:
    return exchange_of("hohhot", ["guizhou", "shanghai"])


@pytest.fixture
def shanghai() -> Exchange:
    return exchange_of("shanghai", ["guizhou", "hohhot"])


def send(sender: Exchange, receiver: Exchange, now_s: float) -> None:
    receiver.take(sender.beat_for(receiver.site, now_s), sender.site, now_s)


def test_one_exchange_makes_both_sites_live(hohhot: Exchange, shanghai: Exchange) -> None:
    send(hohhot, shanghai, 10.0)
    send(shanghai, hohhot, 10.0)
    for site, other in ((hohhot, "shanghai"), (shanghai, "hohhot")):
        assert site.healths(10.0)[other] is Health.LIVE
        assert site.healths(10.0)["guizhou"] is Health.UNHEARD
        assert [view.site for view in site.live(10.0)] == [other]


def test_loss_in_one_direction_is_seen_on_both_sides(hohhot: Exchange, shanghai: Exchange) -> None:
    for second in range(10, 30):
        send(hohhot, shanghai, float(second))
        if second < 15:
            send(shanghai, hohhot, float(second))
    assert shanghai.healths(29.0)["hohhot"] is Health.ONE_WAY
    assert hohhot.healths(29.0)["shanghai"] is Health.LOST


def test_a_beat_of_another_site_than_its_certificate_is_refused(
    hohhot: Exchange, shanghai: Exchange
) -> None:
    body = hohhot.beat_for("shanghai", 1.0)
    with pytest.raises(SiteMessageError, match=r"beat\.site: asked for guizhou, found hohhot"):
        shanghai.take(body, "guizhou", 1.0)


def test_a_beat_for_another_site_is_refused(hohhot: Exchange, shanghai: Exchange) -> None:
    with pytest.raises(SiteMessageError, match=r"beat\.to: asked for shanghai, found guizhou"):
        shanghai.take(hohhot.beat_for("guizhou", 1.0), "hohhot", 1.0)


def test_own_beats_count_periods_also_when_none_is_sent() -> None:
    own = OwnBeats(lambda: view_of("hohhot"), "0" * 16, 0.5, lambda: 0.0)
    assert [own.seq(now_s) for now_s in (7.0, 7.4, 7.5, 12.0)] == [1, 1, 2, 11]


@pytest.mark.parametrize(
    ("period_s", "ttl_s"), [(0.1, 10.0), (1.0, 10.0), (4.0, 40.0), (30.0, 60.0)]
)
def test_a_beat_outlives_three_missed_ones(period_s: float, ttl_s: float) -> None:
    site = exchange_of("hohhot", ["shanghai"], BeatSettings(period_s=period_s))
    assert read_beat(site.beat_for("shanghai", 0.0), 0.0).ttl_s == ttl_s


def test_what_a_site_shows_is_read_once_a_period() -> None:
    views = iter([view_of("hohhot", draw_w=1.0), view_of("hohhot", draw_w=2.0)])
    own = OwnBeats(lambda: next(views), "0" * 16, 1.0, lambda: -5.0)
    exchange = exchange_of("shanghai", ["hohhot"])
    exchange = Exchange("hohhot", own, exchange.peers)
    bodies = [own.snapshot(now_s) for now_s in (0.0, 0.9, 1.0)]
    assert bodies[0] == bodies[1] != bodies[2]


def test_the_clock_that_a_beat_shows_may_be_anything() -> None:
    own = OwnBeats(lambda: view_of("hohhot"), "0" * 16, 1.0, lambda: -86_400.0)
    exchange = Exchange("hohhot", own, exchange_of("hohhot", ["shanghai"]).peers)
    assert read_beat(exchange.beat_for("shanghai", 0.0), 3.0).view.received_s == 3.0


def test_of_each_pair_of_sites_one_begins_and_the_work_is_even() -> None:
    names = [f"site-{number}" for number in range(100)]
    counts = {name: sum(begins(name, other) for other in names if other != name) for name in names}
    assert sum(counts.values()) == 4950
    assert max(counts.values()) < 75

"""An offer as a FlexOffer of UFTP (Shapeshifter 3.0), the flexibility protocol of USEF.

Only what an unsolicited offer needs. `Power` is the change of the draw in whole watts, below 0 for
a lower one. The options of a message exclude each other: each has all watts up to one price.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from uuid import NAMESPACE_URL, uuid5
from xml.etree import ElementTree
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from steppe.errors import UsageError
from steppe.grid.offers.offer import FlexOffer, OfferedPower
from steppe.grid.renderings.site import OfferingSite

VERSION = "3.0.0"
ISP_S = 900
"""Length of an imbalance settlement period, s."""
_ADDRESS = re.compile(r"ean\.[0-9]{12,34}|ea1\.[0-9]{4}-[0-9]{2}\.[^:]{1,244}:.{1,244}")
_DOMAIN = re.compile(r"([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z]{2,}")


@dataclass(frozen=True, slots=True)
class UftpTerms:
    """Who offers to whom.

    Attributes:
        sender: Internet domain of the aggregator.
        recipient: Internet domain of the grid operator.
        congestion_point: Entity address, such as `ean.871685900012636543`.
        time_zone: IANA name of the zone in which days begin.
        baseline: Which baseline the change is against.
    """

    sender: str
    recipient: str
    congestion_point: str
    time_zone: str = "Europe/Amsterdam"
    baseline: str = "agreed"

    def __post_init__(self) -> None:
        """Check them.

        Raises:
            UsageError: A domain, the address or the zone is none.
        """
        for domain in (self.sender, self.recipient):
            if not _DOMAIN.fullmatch(domain):
                raise UsageError(f"UFTP: asked for an internet domain, found {domain[:60]!r}")
        if not _ADDRESS.fullmatch(self.congestion_point):
            found = repr(self.congestion_point[:60])
            raise UsageError(
                f"UFTP: asked for an entity address such as ean.8716..., found {found}"
            )
        try:
            ZoneInfo(self.time_zone)
        except (ZoneInfoNotFoundError, ValueError) as error:
            raise UsageError(f"UFTP: asked for a time zone, found {self.time_zone!r}") from error


def uftp_flex_offer(
    offer: FlexOffer, site: OfferingSite, terms: UftpTerms, now_s: float, day: date | None = None
) -> str:
    """Return the FlexOffer of a day.

    Args:
        offer: What is offered.
        site: The site; the prices have to be in a currency.
        terms: Who offers to whom.
        now_s: Time, s since the Unix epoch.
        day: The day; the one in which the offer begins if None.

    Raises:
        UsageError: No whole period of the day, or no watt, is offered; or there is no currency.
    """
    zone = ZoneInfo(terms.time_zone)
    day = day or datetime.fromtimestamp(max(offer.from_s, now_s), zone).date()
    numbers = _periods(offer, day, zone, now_s)
    options = [*_options(offer.down, -1, numbers), *_options(offer.up, 1, numbers)]
    if not options or not site.currency:
        found = f"{len(numbers)} periods, {offer.down.watts + offer.up.watts} W"
        wanted = f"UFTP: asked for watts in whole periods of {day}, for as long as a call, in money"
        raise UsageError(f"{wanted}, found {found}, currency {site.currency!r}")
    message_id = str(uuid5(NAMESPACE_URL, f"steppe:{site.name}:{offer.id}:{day}:{now_s}"))
    root = ElementTree.Element(
        "FlexOffer",
        {
            "Version": VERSION,
            "SenderDomain": terms.sender,
            "RecipientDomain": terms.recipient,
            "TimeStamp": _time(now_s),
            "MessageID": message_id,
            "ConversationID": message_id,
            "ISP-Duration": f"PT{ISP_S // 60}M",
            "TimeZone": terms.time_zone,
            "Period": day.isoformat(),
            "CongestionPoint": terms.congestion_point,
            "ExpirationDateTime": _time(max(now_s, offer.from_s)),
            "BaselineReference": terms.baseline,
            "Currency": site.currency,
        },
    )
    for number, (watts, price, periods) in enumerate(options, 1):
        attributes = {"OptionReference": f"{number}"} if len(options) > 1 else {}
        attributes |= {"Price": f"{price}", "MinActivationFactor": "0.01"}
        option = ElementTree.SubElement(root, "OfferOption", attributes)
        isp = {"Power": f"{watts}", "Start": f"{periods[0]}", "Duration": f"{len(periods)}"}
        ElementTree.SubElement(option, "ISP", isp)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=False)


def _periods(offer: FlexOffer, day: date, zone: ZoneInfo, now_s: float) -> range:
    """Return the numbers of the whole periods of a day in the offer; the first of a day is 1."""
    begins_s = datetime(day.year, day.month, day.day, tzinfo=zone).timestamp()
    after = day + timedelta(days=1)
    ends_s = datetime(after.year, after.month, after.day, tzinfo=zone).timestamp()
    first_s, last_s = max(offer.from_s, now_s, begins_s), min(offer.until_s, ends_s)
    first = math.ceil((first_s - begins_s) / ISP_S)
    return range(first + 1, max(first, math.floor((last_s - begins_s) / ISP_S)) + 1)


def _options(power: OfferedPower, sign: int, numbers: range) -> list[tuple[int, Decimal, range]]:
    """Return watts, price and periods of each option; a call holds no longer than it may."""
    periods = numbers[: int(power.call.hold_s // ISP_S)]
    if not periods:
        return []
    found, watts, cost = [], 0, 0.0
    for step in power.steps:
        watts += step.watts
        cost += step.watts * step.price * len(periods) * ISP_S
        found.append((sign * watts, Decimal(cost).quantize(Decimal("0.0001")), periods))
    return found


def _time(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")

"""Values of tables that are read and written in Python's terms."""

from __future__ import annotations

import calendar
import datetime
import decimal


def timestamp(value: datetime.datetime) -> int:
    """Return seconds since 1970; a naive time is in UTC."""
    return calendar.timegm(value.utctimetuple())


def naive(seconds: int) -> datetime.datetime | int:
    """Return the time as Puka did: naive, in UTC; the number where it is too far away for that."""
    try:
        return datetime.datetime(1970, 1, 1) + datetime.timedelta(seconds=seconds)
    except OverflowError:
        return seconds


def decimal_parts(value: decimal.Decimal) -> tuple[int, int]:
    """Return decimal places and the number without the point."""
    exponent = value.normalize().as_tuple().exponent
    assert isinstance(exponent, int), f"{value} cannot be sent in a table"
    places = max(0, -exponent)
    number = int(value.scaleb(places))
    fits = places < 256 and -(2**31) <= number < 2**31
    assert fits, f"{value} cannot be sent in a table: it takes 32 bits"
    return places, number

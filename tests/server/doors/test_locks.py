"""Certificates and access as the options name them, without a server."""

from pathlib import Path

import pytest

from server.doors.locks import Locks, Tls
from tests.certificates import Authority, token_entry, write_access
from tests.server.harness import make_config
from tests.server.locked import House


@pytest.fixture
def locks(tmp_path: Path) -> tuple[House, Locks]:
    house = House(tmp_path)
    return house, Locks(make_config(tmp_path, access=house.access, **house.tls))


async def test_new_certificates_are_told_until_they_are_taken(locks: tuple[House, Locks]) -> None:
    house, looked_at = locks
    told: list[Tls] = []
    fails = True

    async def renew(tls: Tls) -> None:
        if fails:
            raise OSError("no file left to open")
        told.append(tls)

    await looked_at.look(renew)
    fresh = Authority(house.folder, "other").issue("server")
    house.pair.certificate.write_bytes(fresh.certificate.read_bytes())
    house.pair.key.write_bytes(fresh.key.read_bytes())
    with pytest.raises(OSError, match="no file left"):
        await looked_at.look(renew)
    fails = False
    await looked_at.look(renew)
    await looked_at.look(renew)
    assert [tls.certificates.chain for tls in told] == [fresh.certificate.read_bytes()]


async def test_both_files_are_looked_at(locks: tuple[House, Locks]) -> None:
    house, looked_at = locks

    async def renew(_: Tls) -> None:
        raise AssertionError("the certificates are as they were")

    assert looked_at.access is not None
    before = looked_at.access.value
    write_access(house.access, token_entry("fresh"))
    await looked_at.look(renew)
    assert looked_at.access.value is not before
    assert looked_at.access.value.by_token("fresh", now=0).models is None


def test_keys_are_shown_by_nothing(locks: tuple[House, Locks]) -> None:
    house, looked_at = locks
    assert looked_at.tls is not None
    line = house.pair.key.read_text().splitlines()[1]
    assert line not in repr(looked_at.tls.value)
    assert line not in repr(looked_at.tls.value.certificates)

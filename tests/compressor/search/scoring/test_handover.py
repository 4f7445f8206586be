"""An object is given to every process that has a ticket, and to nobody else."""

import pickle
from dataclasses import replace
from multiprocessing.connection import Client
from threading import Thread

import pytest

from ortrim.compressor.search.scoring.handover import Handover


@pytest.fixture
def handover():
    made = Handover({"weights": bytes(2**20)}, waiting=2)
    yield made
    made.close()


def test_everyone_with_a_ticket_gets_it(handover):
    ticket = pickle.loads(pickle.dumps(handover.ticket))
    found = []
    threads = [Thread(target=lambda: found.append(ticket.redeem())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [{"weights": bytes(2**20)}] * 4
    handover.close()
    assert handover.given == 4


@pytest.mark.parametrize("shown", [b"", b"x" * 32, b"x" * 1000])
def test_nobody_else_does(handover, shown):
    with pytest.raises((EOFError, ConnectionError)):
        replace(handover.ticket, shown=shown).redeem()
    assert handover.ticket.redeem() == {"weights": bytes(2**20)}
    handover.close()
    assert handover.given == 1


def test_nothing_is_taken_from_anybody_else(handover):
    with pytest.raises(ConnectionRefusedError, match="somebody else"):
        replace(handover.ticket, answered=bytes(32)).redeem()


def test_one_that_dies_while_it_asks_is_no_harm(handover):
    Client(handover.ticket.address).close()
    assert handover.ticket.redeem() == {"weights": bytes(2**20)}


def test_one_that_says_nothing_does_not_keep_others_waiting(handover, monkeypatch):
    monkeypatch.setattr("ortrim.compressor.search.scoring.handover._PATIENCE_S", 0.2)
    with Client(handover.ticket.address):
        assert handover.ticket.redeem() == {"weights": bytes(2**20)}


def test_once_closed_it_is_over(handover):
    handover.close()
    handover.close()
    with pytest.raises((ConnectionRefusedError, FileNotFoundError)):
        handover.ticket.redeem()

"""An object is given to every process that has a ticket, and to nobody else."""

import pickle
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client
from threading import Thread

import pytest

from ortrim.compressor.search.scoring.handover import Handover, Ticket


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


def test_nobody_else_does(handover):
    with pytest.raises(AuthenticationError):
        Ticket(handover.ticket.address, b"another key").redeem()
    assert handover.ticket.redeem() == {"weights": bytes(2**20)}


def test_one_that_dies_while_it_asks_is_no_harm(handover):
    Client(handover.ticket.address, authkey=handover.ticket.key).close()
    assert handover.ticket.redeem() == {"weights": bytes(2**20)}


def test_once_closed_it_is_over(handover):
    handover.close()
    handover.close()
    with pytest.raises(ConnectionRefusedError):
        handover.ticket.redeem()

"""Both forms of HAProxy's statistics, as HAProxy 2.6 wrote them for the shipped haproxy.cfg (shortened)."""

import pytest

from bridge.neighbours.haproxy_stats import nodes
from bridge.status.snapshot import BrokerNode

CSV = """\
# pxname,svname,scur,status,lastchg,check_status,addr,
tcp-in,server1,7,UP,4,,,
mqtt-kafka,FRONTEND,1,OPEN,,,,
mqtt-kafka,server1,1,UP 2/3,100,* L7OK,172.30.1.25:1883,
mqtt-kafka,server2,0,DOWN 1/2,7,L7TOUT,172.30.1.9:1883,
mqtt-kafka,BACKEND,1,UP,100,,,
"""
PROMETHEUS = """\
# HELP haproxy_server_status Current status of the service.
haproxy_server_current_sessions{proxy="tcp-in",server="server1"} 7
haproxy_server_current_sessions{proxy="mqtt-kafka",server="server1"} 1
haproxy_server_current_sessions{proxy="mqtt-kafka",server="server2"} 0
haproxy_server_status{proxy="mqtt-kafka",server="server1",state="DOWN"} 0
haproxy_server_status{proxy="mqtt-kafka",server="server1",state="UP"} 1
haproxy_server_status{proxy="mqtt-kafka",server="server2",state="DOWN"} 1
haproxy_server_status{proxy="mqtt-kafka",server="server2",state="UP"} 0
haproxy_server_check_last_change_seconds{proxy="mqtt-kafka",server="server1"} 100
haproxy_server_check_last_change_seconds{proxy="mqtt-kafka",server="server2"} 7
haproxy_server_check_status{proxy="mqtt-kafka",server="server1",state="L7OK"} 1
haproxy_server_check_status{proxy="mqtt-kafka",server="server1",state="L7TOUT"} 0
haproxy_server_check_status{proxy="mqtt-kafka",server="server2",state="L7OK"} 0
haproxy_server_check_status{proxy="mqtt-kafka",server="server2",state="L7TOUT"} 1
haproxy_server_limit_sessions{proxy="mqtt-kafka",server="server1"} NaN
"""


def test_the_console_as_csv_tells_state_age_sessions_and_address() -> None:
    assert nodes(CSV, "mqtt-kafka") == (
        BrokerNode("server1", "172.30.1.25:1883", True, "UP", 100.0, 1, "L7OK"),
        BrokerNode("server2", "172.30.1.9:1883", False, "DOWN", 7.0, 0, "L7TOUT"),
    )


def test_the_prometheus_endpoint_tells_the_same_without_addresses() -> None:
    assert nodes(PROMETHEUS, "mqtt-kafka") == (
        BrokerNode("server1", "", True, "UP", 100.0, 1, "L7OK"),
        BrokerNode("server2", "", False, "DOWN", 7.0, 0, "L7TOUT"),
    )


@pytest.mark.parametrize(
    ("status", "serves"),
    [("UP", True), ("DRAIN", True), ("NOLB", True), ("no check", True), ("MAINT", False), ("DOWN", False)],
)
def test_a_node_that_drains_still_serves_and_a_node_in_maintenance_does_not(
    status: str, serves: bool
) -> None:
    (node,) = nodes(f"# pxname,svname,status,\nb,s,{status},\n", "b") or ()
    assert (node.is_up, node.status) == (serves, status)


def test_a_section_that_does_not_exist_has_no_nodes() -> None:
    assert nodes(CSV, "emq") == nodes(PROMETHEUS, "emq") == ()


@pytest.mark.parametrize("text", ["", "<html>", "go_goroutines 7\n"])
def test_another_program_is_not_taken_for_haproxy(text: str) -> None:
    assert nodes(text, "mqtt-kafka") is None


HEADER = "# pxname,svname,status,scur,lastchg\n"


@pytest.mark.parametrize(
    "line", ["b,n1,UP," + "9" * 400 + "," + "9" * 400, "b,n1,UP,x,y", "b,n1, ,,", "b,n1", "b,n1,UP,-1,1e9"]
)
def test_numbers_and_words_that_make_no_sense_end_nothing(line: str) -> None:
    (node,) = nodes(HEADER + line, "b") or ()
    assert (node.name, node.sessions, node.state_age) == ("n1", 0, 0.0)


def test_a_line_that_is_no_csv_ends_the_list() -> None:
    found = nodes(f"{HEADER}b,n1,UP,1,1\nb,{'x' * 200_000},UP,1,1\n", "b") or ()
    assert [node.name for node in found] == ["n1"]


def test_a_section_of_thousands_of_servers_costs_the_loop_little() -> None:
    rows = "".join(f"b,{'n' * 200}{number},UP,1,1\n" for number in range(5000))
    samples = "".join(
        f'haproxy_server_status{{proxy="b",server="n{number}",state="UP"}} 1\n' for number in range(5000)
    )
    for text in (HEADER + rows, samples):
        found = nodes(text, "b") or ()
        assert len(found) == 64
        assert max(len(node.name) for node in found) <= 100

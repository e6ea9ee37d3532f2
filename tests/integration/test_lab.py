"""deploy/lab as a new user runs it, beginning with README's first command.

These tests have a lab of their own, on a network of its own (tests/conftest.py): a lab of the user may be up.
"""

import base64
import contextlib
import os
import re
import shlex
import signal
import socket
import subprocess
import termios
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.conditions import measuring, patient, wait_until
from tests.harness.dashboard import alert_expressions, metrics_in, targets, without_variables
from tests.harness.haproxy import DEVICES
from tests.harness.host import LAB, Network
from tests.harness.kit import ROOT
from tests.harness.process import Process
from tests.harness.prometheus import PORT, Api
from tests.harness.terminal import UP, USUAL

NETWORK = Network(LAB)


class LabProcess(Process):
    """`deploy/lab up`, whose start tells how slow this machine is now."""

    def start(self) -> None:
        with measuring(USUAL):
            super().start()


def ask(*words: str) -> subprocess.CompletedProcess[str]:
    """Run deploy/lab, as a second terminal does."""
    return subprocess.run(
        ["deploy/lab", *words],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=patient(90.0),
    )


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Process]:
    """`deploy/lab up`, not started yet; it is ready when it answers a second terminal."""
    process = LabProcess(
        "lab",
        ["deploy/lab", "up"],
        log=tmp_path / "lab.log",
        cwd=ROOT,
        ready=lambda: "dashboards http" in process.log.read_text(),
        deadline=UP,
    )
    yield process
    process.kill9()


class Terminal:
    """A terminal of 80x24 with a program. `display` is the last complete picture of the view."""

    def __init__(self, *command: str, term: str) -> None:
        self._ours, self._theirs = os.openpty()
        termios.tcsetwinsize(self._ours, (24, 80))
        os.set_blocking(self._ours, False)
        self.output = b""
        self.modes_before = self.modes
        self.program = subprocess.Popen(
            ["setsid", "--ctty", *command],
            cwd=ROOT,
            stdin=self._theirs,
            stdout=self._theirs,
            stderr=self._theirs,
            env={name: value for name, value in os.environ.items() if name not in ("LINES", "COLUMNS")}
            | {"TERM": term},
        )

    @property
    def modes(self) -> list[object]:
        return termios.tcgetattr(self._theirs)

    def type(self, keys: str) -> None:
        os.write(self._ours, keys.encode())

    @property
    def display(self) -> str:
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self._ours, 65536):
                self.output += data
        *_, whole, _ = [b"", b"", *self.output.split(b"\x1b[H")]
        return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", whole.decode())

    @property
    def lines(self) -> str:
        """The lines on the terminal after the view has ended, or without a view."""
        _ = self.display
        return self.output.rpartition(b"\x1b[?1049l")[2].decode().replace("\r\n", "\n")

    def wait_for(self, text: str, deadline: float) -> None:
        wait_until(lambda: re.search(text, self.display), deadline, lambda: f"{text!r} in\n{self.display}")

    def wait_end(self) -> int:
        wait_until(lambda: self.lines and self.program.poll() is not None, 30.0, lambda: self.display)
        return self.program.wait()

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, *_: object) -> None:
        self.program.kill()
        self.program.wait()
        os.close(self._ours)
        os.close(self._theirs)


def answer_of(url: str, user: str = "") -> str:
    request = urllib.request.Request(url)
    if user:
        request.add_header("Authorization", "Basic " + base64.b64encode(user.encode()).decode())
    with urllib.request.urlopen(request, timeout=10.0) as answer:
        return str(answer.read().decode())


def nothing_listens() -> bool:
    hosts = (*NETWORK.emq, NETWORK.haproxy, *NETWORK.kafka)
    return not any(host.listens(port) for host in hosts for port in (1883, 1884, 8080, 8081, 9092, 9093))


def test_the_readmes_first_command_shows_that_messages_flow() -> None:
    command = re.search(r"^    (deploy/lab up .*)$", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert command is not None
    words = [word if word != "60s" else "20s" for word in shlex.split(command[1])]

    done = subprocess.run(
        words, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=UP + 60
    )

    assert done.returncode == 0, done.stdout + done.stderr
    scores = re.findall(
        r"published +(\d+), delivered +(\d+), in flight +(\d+), on disk (\d+), lost 0, duplicated 0",
        done.stdout,
    )
    assert len(scores) >= 15
    assert all(int(published) == sum(map(int, rest)) for published, *rest in scores)
    verdict = re.search(r"published (\d+), delivered \1, lost 0, duplicated 0, out of order 0", done.stdout)
    assert verdict is not None
    assert int(verdict[1]) > 500
    assert nothing_listens()


def test_a_second_terminal_kills_looks_and_publishes(lab: Process) -> None:
    lab.start()

    assert "a lab is up already" in ask("up").stderr
    killed = ask("kill", "emq1")
    assert killed.returncode == 0, killed.stderr
    assert re.search(r"emq1 killed.*HAProxy calls it DOWN after", killed.stdout)
    assert re.search(r"^emq1 +down, DOWN to HAProxy", ask("status").stdout, re.MULTILINE)
    assert "emq1 is down: deploy/lab start emq1" in ask("kill", "emq1").stderr
    assert "UP after" in ask("start", "emq1").stdout
    assert "lab: emq1 is up: there is nothing to start" in ask("start", "emq1").stderr

    consumer = Process(
        "consume",
        ["deploy/lab", "consume", "iot.others", "--count", "1"],
        log=lab.log.with_name("consume.log"),
        cwd=ROOT,
    )
    consumer.start()
    wait_until(  # the consumer reads only records from after its start
        lambda: ask("publish", "garden/visitor", "hello").returncode == 0 and not consumer.alive,
        30.0,
        "what was published came out of Kafka",
    )
    assert re.search(
        r"^iot.others/\d@\d+ .* garden/visitor .* hello$", consumer.log.read_text(), re.MULTILINE
    )

    sent = ask("publish", "garden/visitor", "again").stdout
    assert re.search(r"came out of Kafka \d+ ms later: iot.others/\d@\d+ .* garden/visitor .* again$", sent)
    before = ask("consume", "iot.others", "--from-beginning", "--count", "2").stdout
    assert len(re.findall(r"^iot.others/.* garden/visitor .* (?:hello|again)$", before, re.MULTILINE)) == 2
    unknown = ask("consume", "iot.garden")
    assert (unknown.returncode, unknown.stdout) == (1, "")
    assert "Kafka has no topic iot.garden; it has iot.others, iot.sensors" in unknown.stderr

    down = ask("down")
    assert re.match(r"published (\d+), delivered \1, lost 0, duplicated 0, out of order 0$", down.stdout)
    wait_until(lambda: not lab.alive, 10.0, "the lab has ended")
    assert lab.returncode == 0
    assert nothing_listens()


def test_all_of_kafka_dies_and_comes_back_broker_by_broker(lab: Process) -> None:
    lab.start()

    killed = ask("kill", "kafka")
    assert killed.returncode == 0, killed.stderr
    assert "kafka1, kafka2, kafka3 killed; fewer than 2 Kafka brokers are up" in killed.stdout
    wait_until(lambda: re.search(r"on disk [1-9]\d*, lost 0", ask("status").stdout), 30.0, "it is on disk")
    sent = ask("publish", "garden/visitor", "Kafka is down")
    assert "EMQ had it after" in sent.stdout, sent.stderr
    assert "waits on the bridge's disk" in sent.stdout
    alone = ask("start", "kafka1")
    assert "kafka1 started; waits for its peers" in alone.stdout, alone.stderr
    assert re.search(r"^kafka1 +starts", ask("status").stdout, re.MULTILINE)
    # Whether two brokers are enough depends on the order in which Kafka's controller missed the three.
    second = ask("start", "kafka2")
    assert re.match(
        r"kafka2 started in .*messages flow after|kafka2 started; \d+ partition.* deploy/lab start kafka3$",
        second.stdout,
    ), second
    third = ask("start", "kafka")
    assert third.stdout.startswith("kafka3 started in"), third.stderr
    wait_until(
        lambda: len(re.findall(r"^kafka\d +up", ask("status").stdout, re.MULTILINE)) == 3, 60.0, "all are up"
    )
    waited = ask("consume", "iot.others", "--from-beginning", "--count", "1").stdout
    assert waited.endswith("| Kafka is down\n")

    assert re.match(r"published (\d+), delivered \1, lost 0", ask("down").stdout)


def test_on_a_terminal_a_view_shows_it_and_its_keys_do_what_a_second_terminal_can() -> None:
    with Terminal("deploy/lab", "up", term="xterm") as terminal:
        terminal.wait_for("a-g kill or start a host", UP)
        assert "one mosquitto behind two doors stands in" in terminal.display
        address, page = NETWORK.haproxy.address, f"http://{NETWORK.bridge.address}:9464/"
        for url in (f"http://{address}:8080/", f"http://{address}:8081/haproxy?stats", page):
            assert url in terminal.display
        assert re.match(r"emq[12]$", answer_of(f"http://{address}:8080/"))
        assert "tcp-in" in answer_of(f"http://{address}:8081/haproxy?stats", "admin:lab")
        assert "<title>" in answer_of(page)

        terminal.type("b")
        terminal.wait_for(r"(?s)○ down .*emq1 killed; .*calls\s+it\s+DOWN\s+after", 30.0)
        assert re.search(r"^emq1 +down", ask("status").stdout, re.MULTILINE)
        terminal.type("b")
        terminal.wait_for(r"(?s)emq1 started in .*UP\s+after", 30.0)
        assert "○ down" not in terminal.display

        terminal.type("G")
        terminal.wait_for("(?s)■ hung.*kafka3 hangs", 5.0)
        terminal.type("G")
        terminal.wait_for("kafka3 goes on", 5.0)
        assert ask("publish", "garden/visitor", "hello").returncode == 0
        terminal.wait_for(r"(?s)hello was sent to garden/visitor; .*came\s+out\s+of\s+Kafka", 5.0)
        terminal.type("\x1b[D\x1b[Cz")  # arrow keys, whose codes end with a letter, and an unassigned key

        assert terminal.modes != terminal.modes_before
        terminal.type("q")
        assert terminal.wait_end() == 0
        assert terminal.modes == terminal.modes_before
        assert terminal.output.count(b"\x1b[?25l") == terminal.output.count(b"\x1b[?25h")  # the cursor
        assert "emq1 killed; " in terminal.lines
        assert re.search(
            r"published (\d+), delivered \1, lost 0, duplicated 0, out of order 0$",
            terminal.lines,
            re.MULTILINE,
        )
    assert nothing_listens()


def test_the_picture_for_readme_is_of_a_real_lab_and_holds_nothing_of_this_machine(tmp_path: Path) -> None:
    done = ask("picture", str(tmp_path / "lab.svg"))

    assert (done.returncode, done.stderr) == (0, "")
    svg = (tmp_path / "lab.svg").read_text()
    words = re.sub(r"<[^>]*>", " ", svg).replace("&#160;", " ")
    assert "○ down" in words
    assert "emq1 killed; the bridge went over to emq2" in words or "emq1 killed; messages flow" in words
    assert not re.search(rf"{ROOT}|{Path.home()}|{tmp_path}", svg)


def test_a_dumb_terminal_gets_a_line_each_second() -> None:
    with Terminal("deploy/lab", "up", "--for", "4s", term="dumb") as terminal:
        wait_until(lambda: "lost 0, duplicated 0, out of order 0" in terminal.lines, UP + 30.0, "the verdict")
        assert terminal.wait_end() == 0
        assert b"\x1b" not in terminal.output
        assert len(re.findall(r"^\d\d:\d\d published", terminal.lines, re.MULTILINE)) >= 4


def test_ctrl_c_while_it_comes_up_ends_what_was_started(lab: Process) -> None:
    lab.spawn()
    wait_until(lambda: NETWORK.haproxy.listens(DEVICES), UP, "HAProxy serves")

    os.kill(lab.pid, signal.SIGINT)

    wait_until(lambda: not lab.alive, 10.0, "the lab has ended")
    assert lab.returncode == 1
    assert nothing_listens()


def test_while_it_comes_up_a_second_terminal_sees_it_and_can_end_it(lab: Process) -> None:
    lab.spawn()
    wait_until(lambda: NETWORK.haproxy.listens(DEVICES), UP, "HAProxy serves")

    status = ask("status")
    assert (status.returncode, status.stdout) == (1, "")
    assert re.match(r"lab: the lab still comes up, for \d+ s now \(", status.stderr)
    assert "a lab is up already" in ask("up").stderr
    down = ask("down")
    assert (down.returncode, down.stdout) == (0, "the lab has ended before it was up\n")

    wait_until(lambda: not lab.alive, 10.0, "the lab has ended")
    assert lab.returncode == 1
    assert "Traceback" not in lab.log.read_text()
    assert nothing_listens()
    again = ask("down")
    assert (again.returncode, again.stdout) == (0, "no lab is up\n")


def test_a_second_ctrl_c_ends_it_at_once_and_without_a_traceback(lab: Process) -> None:
    lab.start()
    assert ask("hang", "kafka").returncode == 0  # so that messages stay in flight

    def has_ended() -> bool:
        if lab.alive:
            os.kill(lab.pid, signal.SIGINT)  # again and again: the kernel merges signals that wait
        return not lab.alive

    wait_until(has_ended, 30.0, "the lab has ended")
    assert lab.returncode == 1  # messages wait on the bridge's disk
    assert "Traceback" not in lab.log.read_text()
    assert nothing_listens()


def test_a_port_in_use_is_named_with_the_way_to_find_who_uses_it() -> None:
    with socket.create_server((NETWORK.haproxy.address, DEVICES)):
        refused = ask("up")

    assert refused.returncode == 1
    port = f"{NETWORK.haproxy.address}:{DEVICES}"
    assert f"haproxy cannot listen on {port}: Address already in use" in refused.stderr
    assert "ss -ltnp" in refused.stderr


def test_a_second_terminal_is_told_when_there_is_no_lab() -> None:
    done = ask("status")

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "lab: no lab is up: deploy/lab up, in another terminal\n"


# -- with Prometheus -----------------------------------------------------------------------------------


def _observed(prometheus: Api) -> None:
    """Every expression of the dashboard has data, and every metric of an alert exists."""
    for name, expression in targets().items():
        used = metrics_in(expression)
        # Of these nothing is configured here, or there is none now.
        absent = re.compile(r"session_|certificate_|transaction|_trouble")
        may_be_absent = any(map(absent.search, used))
        assert prometheus.query(without_variables(expression)) or may_be_absent, (name, expression)
    for name, expression in alert_expressions().items():
        prometheus.query(expression)
        for metric in metrics_in(expression):
            if not re.search(r"session_queue_|certificate_", metric):
                assert prometheus.query(f"last_over_time({metric}[5m])"), (name, metric)


def test_prometheus_beside_the_lab_has_data_and_its_alerts_name_the_host(tmp_path: Path) -> None:
    process = Process(
        "lab",
        ["deploy/lab", "up", "--observe"],
        log=tmp_path / "lab.log",
        cwd=ROOT,
        ready=lambda: "dashboards http" in process.log.read_text(),
        deadline=UP + 30.0,
    )
    prometheus = Api(f"http://{NETWORK.observer.address}:{PORT}")

    def fires(name: str, text: str) -> None:
        wait_until(
            lambda: text in prometheus.firing().get(name, ""),
            30.0,
            lambda: f"{name} fires with {text!r}, but {prometheus.firing()}",
        )

    process.start()
    try:
        assert f"prometheus {prometheus.url}/" in process.log.read_text()
        wait_until(
            lambda: prometheus.query("sum(rate(mqtt_kafka_bridge_messages_delivered_total[1m])) > 1"),
            60.0,
            "a rate",
        )
        wait_until(
            lambda: prometheus.query("mqtt_kafka_bridge_kafka_broker_round_trip_p99_seconds"),
            150.0,
            "statistics, which come once a minute",
        )
        _observed(prometheus)
        wait_until(lambda: not prometheus.firing(), 30.0, lambda: f"no alert, but {prometheus.firing()}")

        assert ask("kill", "emq1").returncode == 0
        fires("MqttKafkaBridgeEmqNodeDown", "server1")
        assert ask("kill", "emq2").returncode == 0
        fires("MqttKafkaBridgeNotReceiving", "HAProxy finds the EMQ node server2 down")
        assert ask("start", "emq2").returncode == 0
        assert ask("start", "emq1").returncode == 0
        assert ask("kill", "kafka2").returncode == 0
        fires("MqttKafkaBridgeKafkaBrokerDown", f"{NETWORK.kafka[1].address}:9092")
        assert ask("start", "kafka2").returncode == 0
        assert ask("kill", "haproxy").returncode == 0
        fires("MqttKafkaBridgeNotReceiving", f"mqtt.connect_failed at {NETWORK.haproxy.address}:1884")
        assert ask("start", "haproxy").returncode == 0
        wait_until(lambda: "MqttKafkaBridgeNotReceiving" not in prometheus.firing(), 60.0, "live again")
    finally:
        process.kill9()

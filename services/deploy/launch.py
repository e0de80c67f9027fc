"""The life of a cluster: Ray up, directory, components and gateway up, watched, and down again."""

from __future__ import annotations

import dataclasses
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from graph.errors import ERRORS, AlreadyExists, AnyplexError, Cancelled, FailedPrecondition, Unavailable
from services.deploy.control import Control
from services.deploy.plans import plan_deployment
from services.deploy.state import (
    ClusterState,
    check_name,
    home,
    process_start,
    read_state,
    registry_of,
    remove_state,
    replicas_of,
    write_state,
)
from services.runtime.settings import COMPONENT_TOKEN, CONTROL_TOKEN, settings_from_env

Report = Callable[[str], None]

START_S = 300.0
STOP_S = 60.0
DRAIN_S = 20.0
OBJECT_STORE_BYTES = 80 * 2**20
RAY_ENVIRONMENT = {
    # Serve collects what replicas report every ten seconds by default: too slow to scale by.
    "RAY_SERVE_REPLICA_AUTOSCALING_METRIC_PUSH_INTERVAL_S": "0.5",
    "RAY_SERVE_HANDLE_AUTOSCALING_METRIC_PUSH_INTERVAL_S": "0.5",
    # One event loop a replica: gRPC's asyncio server and Serve share it.
    "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0",
    # Serve's replicas open a port that unpickles what it is sent: Ray's tokens guard it.
    "RAY_AUTH_MODE": "token",
    # Ray runs workers at a niceness of 15: beside anything else that computes, replicas would hardly get a turn.
    "RAY_worker_niceness": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_SERVE_LOG_TO_STDERR": "0",
    "RAY_DISABLE_IMPORT_WARNING": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


@dataclass(frozen=True)
class UpOptions:
    """What to start.

    Attributes:
        systems: Names or files of systems.
        profile: Name or file of the profile.
        weights: Checkpoint instead of the bundled weights.
        host: Address of the gateway; "" means the profile's.
        port: Port of the gateway; 0 means the profile's.
        token: Token the gateway asks for; "" means none (loopback only).
        name: Name of the cluster.
        ray_address: Ray cluster to join; "" starts one on this machine.
        log_path: Where a detached process writes.
    """

    systems: tuple[str, ...] = ("next-gpt",)
    profile: str = "local"
    weights: str | None = None
    host: str = ""
    port: int = 0
    token: str = ""
    name: str = "default"
    ray_address: str = ""
    log_path: str = ""


def run_foreground(options: UpOptions, report: Report) -> None:
    """Start a cluster, keep it running until SIGINT or SIGTERM, and take it down.

    The cluster lives in a process of its own all the same: Ray writes to the standard error of its driver.

    Raises:
        AnyplexError: It cannot be started (nothing of it stays), or it ended by itself.
    """
    stopped = threading.Event()
    _catch_signals(stopped)
    state = start_detached(options, report, stopped)
    try:
        while not stopped.wait(0.5):
            if not state.alive():
                raise Unavailable(f"the cluster ended by itself; see {state.log_path}")
    finally:
        stop(options.name, report)


def run_cluster(options: UpOptions, report: Report) -> None:
    """Be the process of a cluster: bring it up, keep it running until SIGINT or SIGTERM, take it down.

    Raises:
        AnyplexError: It cannot be started; nothing of it stays.
    """
    stopped = threading.Event()
    _catch_signals(stopped)
    cluster = Cluster(options, report)
    try:
        cluster.start(stopped)
        cluster.watch(stopped)
    except AnyplexError as error:
        cluster.note(phase="failed", line=str(error), code=error.code)
        raise
    finally:
        cluster.stop()


def _catch_signals(stopped: threading.Event) -> None:
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stopped.set())


def _free_port(host: str) -> int:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


class Cluster:
    """One cluster, owned by this process.

    Args:
        options: What to start.
        report: Told what goes on, a line at a time.
    """

    def __init__(self, options: UpOptions, report: Report) -> None:
        self.options = options
        self.report = report
        pid = os.getpid()
        self.state = ClusterState(options.name, pid, "", log_path=options.log_path, process_start=process_start(pid))
        self._ray: Any = None
        self._scratch = ""
        self._failed = False

    def note(self, **changes: Any) -> None:  # noqa: ANN401
        """Write down what has changed."""
        self.state = dataclasses.replace(self.state, **changes)
        self._failed = self._failed or self.state.phase == "failed"
        write_state(self.state)

    def say(self, line: str) -> None:
        """Report, and write it down."""
        self.report(line)
        self.note(line=line)

    def start(self, stop: threading.Event) -> None:
        """Bring everything up.

        Raises:
            AnyplexError: Something does not start.
        """
        options = self.options
        if options.host:
            # Refused before a checkpoint is imported, which may take minutes.
            settings_from_env(host=options.host, data_token=options.token)
        deployment = plan_deployment(options.systems, options.profile, options.weights)
        gateway = dataclasses.replace(
            deployment.profile.gateway,
            host=options.host or deployment.profile.gateway.host,
            port=options.port or deployment.profile.gateway.port,
            default_system=deployment.profile.gateway.default_system or next(iter(deployment.systems)),
        )
        # What drains waits for the longest request there may be.
        deadline_s = max(plan.limits.deadline_s for plan in deployment.systems.values())
        edge = settings_from_env(
            host=gateway.host, data_token=options.token, control_token="", max_deadline_s=deadline_s
        )
        # Chosen here, so that a gateway that is restarted is scraped where it was before.
        edge = dataclasses.replace(edge, metrics_port=edge.metrics_port or _free_port(edge.metrics_host))
        inside = settings_from_env(
            max_deadline_s=deadline_s,
            host=deployment.profile.host,
            port_range=deployment.profile.port_range,
            # Named by the environment where components that were started by hand ask for one too.
            data_token=os.environ.get(COMPONENT_TOKEN, "") or secrets.token_hex(16),
            control_token=os.environ.get(CONTROL_TOKEN, "") or secrets.token_hex(16),
            tls=None,
        )
        control = self._control(inside.host or "127.0.0.1")
        self.note(
            address=f"{gateway.host}:{gateway.port}",
            token=options.token,
            component_token=inside.data_token,
            control_address=f"{control.host}:{control.port}",
            control_token=inside.control_token,
            registry_url=control.registry_url,
            systems=tuple(deployment.systems),
            profile=deployment.profile.name,
            components={c.id: [c.kind, c.type, *(f"{s}.{n}" for s, n in c.uses)] for c in deployment.components},
        )
        self.say("starting Ray")
        self._start_ray()
        # Again: Ray's handler would abort this process three seconds after a SIGTERM, in the middle of its clean-up.
        _catch_signals(stop)
        from services.deploy.rollout import deploy, wait_ready

        self.say(f"starting {len(deployment.components)} components and the gateway")
        deploy(deployment, gateway, edge, inside, control, options.profile)
        snapshot, metrics_address = wait_ready(deployment, self.say, stop, START_S)
        self.note(phase="ready", replicas=replicas_of(snapshot.entries), metrics_address=metrics_address)
        self.say(f"ready at {self.state.address}: {', '.join(deployment.systems)}")

    def _control(self, host: str) -> Control:
        """Choose where the control service listens, and the registry it writes to."""
        return Control(host, _free_port(host), registry_of(self.options.name))

    def watch(self, stop: threading.Event) -> None:
        """Keep the list of replicas up to date until told to stop."""
        from services.deploy.rollout import follow

        follow(stop, lambda snapshot: self.note(replicas=replicas_of(snapshot.entries)))

    def stop(self) -> None:
        """Take everything down that ``start`` brought up."""
        if self._ray is not None:
            self.report("stopping")
            if not self._failed:
                self.note(phase="stopping")
            from services.deploy.rollout import withdraw

            if not self.options.ray_address:
                # What is in flight gets a moment; the processes are ours and go with Ray.
                withdraw(DRAIN_S)
            else:
                withdraw(STOP_S)
            self._ray.shutdown()
            self._ray = None
        if self._scratch and not self._failed:
            shutil.rmtree(self._scratch, ignore_errors=True)
        if not self._failed:
            remove_state(self.options.name, self.state.pid)

    def _start_ray(self) -> None:
        for key, value in RAY_ENVIRONMENT.items():
            os.environ.setdefault(key, value)
        if not self.options.ray_address:
            os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
        import ray

        from services.runtime.cluster import NAMESPACE

        common: dict[str, Any] = {"namespace": NAMESPACE, "log_to_driver": False, "logging_level": "ERROR"}
        try:
            if self.options.ray_address:
                ray.init(address=self.options.ray_address, **common)
            else:
                # Short, because Ray puts sockets below it, whose paths may have 107 characters.
                self._scratch = tempfile.mkdtemp(prefix="apx-", dir="/tmp")  # noqa: S108
                os.environ["ANYPLEX_SCRATCH"] = self._scratch
                ray.init(
                    address="local", include_dashboard=False, object_store_memory=OBJECT_STORE_BYTES,
                    num_cpus=max(2, os.cpu_count() or 2), _temp_dir=self._scratch, **common,
                )  # fmt: skip
        except Exception as error:  # noqa: BLE001 - a node that starts too slowly is a bare Exception of Ray's
            ray.shutdown()
            raise Unavailable(f"Ray does not start: {str(error).splitlines()[0][:300]}") from error
        self._ray = ray


def start_detached(options: UpOptions, report: Report, stopped: threading.Event | None = None) -> ClusterState:
    """Start a cluster in a process of its own and wait until it is ready, or until ``stopped`` is set.

    Raises:
        AlreadyExists: A cluster of that name runs.
        Cancelled: ``stopped`` was set; nothing of the cluster stays.
        AnyplexError: It does not start.
    """
    check_name(options.name)
    running = read_state(options.name)
    if running is not None and running.alive():
        raise AlreadyExists(f"a cluster {options.name!r} runs already at {running.address} (anyplex down)")
    remove_state(options.name)
    log_path = home() / "logs" / f"{options.name}.log"
    log_path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    content = json.dumps(dataclasses.asdict(dataclasses.replace(options, log_path=str(log_path))))
    with log_path.open("wb") as log:
        process = subprocess.Popen(  # noqa: S603 - our own interpreter, our own module
            [sys.executable, "-m", "services.deploy"],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    # Through the pipe, not the command line: it may hold a token, and command lines are everybody's to read.
    _hand_over(process, content.encode())
    last, give_up = "", time.monotonic() + START_S + 30.0
    while time.monotonic() < give_up:
        state = read_state(options.name)
        if state is not None and state.line != last and state.phase != "failed":
            last = state.line
            report(last)
        if state is not None and state.phase == "ready":
            return state
        if state is not None and state.phase == "failed":
            remove_state(options.name, process.pid)
            raise ERRORS.get(state.code, FailedPrecondition)(state.line or "the cluster did not start; see its log")
        if process.poll() is not None:
            raise Unavailable(f"the cluster's process ended with {process.returncode}; see {log_path}")
        if stopped is not None and stopped.is_set():
            _end(process, report)
            remove_state(options.name, process.pid)
            raise Cancelled("interrupted while starting")
        time.sleep(0.1)
    _end(process, report)
    remove_state(options.name, process.pid)
    raise Unavailable(f"the cluster was not ready after {START_S:.0f} s; see {log_path}")


def _hand_over(process: subprocess.Popen[bytes], content: bytes) -> None:
    if process.stdin is not None:
        process.stdin.write(content)
        process.stdin.close()


def _end(process: subprocess.Popen[bytes], report: Report) -> None:
    process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        report("it does not stop by itself; killing it")
        process.kill()
        process.wait()


def stop(name: str, report: Report) -> bool:
    """Take a cluster down; returns whether there was one."""
    state = read_state(name)
    if state is None or not state.alive():
        remove_state(name)
        return False
    report(f"stopping {name} (process {state.pid})")
    os.kill(state.pid, signal.SIGTERM)
    give_up = time.monotonic() + STOP_S
    while state.alive() and time.monotonic() < give_up:
        time.sleep(0.1)
    if state.alive():
        report("it does not stop by itself; killing it")
        os.kill(state.pid, signal.SIGKILL)
    remove_state(name)
    return True

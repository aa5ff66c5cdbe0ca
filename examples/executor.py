#!/usr/bin/env python3
"""An executor for Kaon with nothing but Python's standard library.

The `data` of each task is a line for the shell. Named as the command of an executor: ["python3", "executor.py"].
docs/executors.md has the protocol: one JSON object a line, over the unix socket of the node's agent.
"""
import asyncio
import json
import os
import random
import signal
import time

LINE_MAX = 64 * 1024 * 1024


class Executor:
    def __init__(self):
        self.socket = os.environ["KAON_EXECUTOR_SOCKET"]
        with open(os.environ["KAON_EXECUTOR_TOKEN_FILE"], encoding="utf-8") as file:
            token = file.read().strip()
        self.introduction = {
            "token": token,
            "frameworkId": os.environ["KAON_FRAMEWORK_ID"],
            "executorId": os.environ["KAON_EXECUTOR_ID"],
        }
        self.has_registered = False
        self.writer = None  # while the agent listens
        self.tasks = {}  # launch id -> task, until the agent has acknowledged its end
        self.updates = {}  # update id -> update, until the agent has acknowledged it
        self.introduced = set()  # ids of the updates that the last introduction has told
        self.ended = set()  # launch ids whose end has been acknowledged
        self.processes = {}  # launch id -> process
        self.killed = set()  # launch ids
        self.update_count = 0
        self.shutting_down = False

    async def run(self):
        """Connects until it has been shut down and everything has been told."""
        pause = 0.02
        while not self.is_done():
            try:
                reader, writer = await asyncio.open_unix_connection(self.socket, limit=LINE_MAX)
            except OSError:
                pass  # the agent is away; tasks go on
            else:
                try:
                    self.introduce(writer)
                    if await self.listen(reader, writer):
                        pause = 0.02
                except OSError:
                    pass  # the connection broke
                self.writer = None
                writer.close()
            await asyncio.sleep(random.uniform(pause / 2, pause))
            pause = min(2 * pause, 1)

    def is_done(self):
        return self.shutting_down and not self.processes and not self.updates

    def introduce(self, writer):
        """Says who this is; to an agent that has known it, also what it has and owes."""
        message = {"type": "RegisterExecutor", **self.introduction}
        if self.has_registered:
            tasks = [{"launchId": launch, "task": task} for launch, task in self.tasks.items()]
            message.update(type="ReregisterExecutor", tasks=tasks, updates=list(self.updates.values()))
        self.introduced = set(self.updates)
        writer.write(encode(message))

    async def listen(self, reader, writer):
        """Does what the agent says until the connection ends. True if the agent had answered."""
        while not self.is_done():
            line = await reader.readline()
            if not line.endswith(b"\n"):
                break
            message = json.loads(line)
            if message["type"] in ("ExecutorRegistered", "ExecutorReregistered"):
                self.has_registered, self.writer = True, writer
                for update_id, update in self.updates.items():
                    if update_id not in self.introduced:
                        self.say({"type": "StatusUpdate", "update": update})
            elif message["type"] == "ExecutorError" and not self.has_registered:
                raise SystemExit(f"the agent has refused this executor: {message['message']}")
            else:
                await self.do(message)
        return self.writer is not None

    async def do(self, message):
        kind = message["type"]
        if kind == "RunTask":
            await self.launch(message)
        elif kind == "RunTaskGroup":
            for launched in message["tasks"]:
                await self.launch(launched)
        elif kind == "KillTask":
            self.kill(message["launchId"], message["gracePeriodMs"])
        elif kind == "StatusUpdateAcknowledgement":
            update = self.updates.pop(message["updateId"], None)
            if update and update["state"] in ("TASK_FINISHED", "TASK_FAILED", "TASK_KILLED"):
                self.tasks.pop(update["launchId"], None)
                self.ended.add(update["launchId"])
        elif kind == "FrameworkToExecutor":
            self.say({"type": "ExecutorToFramework", "data": f"{len(self.processes)} tasks, {message['data']}"})
        elif kind == "ShutdownExecutor":
            self.shutting_down = True
            for launch_id in list(self.processes):
                # Sooner than the end of its own time, so that there is some left to tell how they have ended.
                self.kill(launch_id, message["gracePeriodMs"] * 0.8)
        # What a newer agent may say besides is none of our business.

    async def launch(self, launched):
        launch_id, task = launched["launchId"], launched["task"]
        if launch_id in self.tasks or launch_id in self.ended or self.shutting_down:
            return  # a launch that comes twice is run once
        self.tasks[launch_id] = task
        try:
            process = await asyncio.create_subprocess_shell(
                task.get("data", "true"), stdin=asyncio.subprocess.DEVNULL, start_new_session=True
            )
        except OSError as error:
            self.report(launch_id, "TASK_FAILED", message=f"no process could be made: {error}")
            return
        self.processes[launch_id] = process
        self.report(launch_id, "TASK_RUNNING", startedAtMs=int(time.time() * 1000))
        asyncio.create_task(self.wait(launch_id, process))

    async def wait(self, launch_id, process):
        code = await process.wait()
        del self.processes[launch_id]
        how = {"exitCode": code} if code >= 0 else {"signal": -code}
        state = "TASK_KILLED" if launch_id in self.killed else "TASK_FINISHED" if code == 0 else "TASK_FAILED"
        self.report(launch_id, state, endedAtMs=int(time.time() * 1000), **how)

    def kill(self, launch_id, grace_period_ms):
        if launch_id in self.processes:
            self.killed.add(launch_id)
            self.signal(launch_id, signal.SIGTERM)
            asyncio.get_running_loop().call_later(
                grace_period_ms / 1000, self.signal, launch_id, signal.SIGKILL
            )

    def signal(self, launch_id, number):
        if launch_id in self.processes:
            try:
                os.killpg(self.processes[launch_id].pid, number)
            except ProcessLookupError:
                pass  # it has just ended

    def report(self, launch_id, state, **more):
        """Kept, and said again with each registration, until the agent has acknowledged it."""
        self.update_count += 1
        update = {
            "taskId": self.tasks[launch_id]["taskId"],
            "launchId": launch_id,
            "updateId": f"u{self.update_count}",
            "state": state,
            **more,
        }
        self.updates[update["updateId"]] = update
        self.say({"type": "StatusUpdate", "update": update})

    def say(self, message):
        if self.writer:
            self.writer.write(encode(message))


def encode(message):
    return json.dumps(message).encode() + b"\n"


if __name__ == "__main__":
    asyncio.run(Executor().run())

"""AgentDojo's suites as they are, in a Python that has AgentDojo and nothing of ours: its environments behind MCP, and its tasks' calls.

    python suites.py --version v1 --port-file FILE

One HTTP server of this machine. `/mcp/<suite>` speaks MCP (Streamable HTTP, answers as JSON) and offers the suite's tools, run by AgentDojo
on the suite's one environment. The rest is for who tries: `GET /suites` names tasks and tools; `POST /begin` makes a fresh environment for
a task, or with an injection in all places where outsiders write, and answers the calls of the task's ground truth; `POST /calls` answers
those alone; `POST /judge` says whether the environment is as the task wants it, by AgentDojo's own word.

Two things differ, because an action's arguments are flat: attachments are a list of file ids (AgentDojo: objects with a type), and what is
left out is not sent as null.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import threading
import types
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

PROTOCOL = "2025-06-18"


def _without_models() -> None:
    """AgentDojo's packages of model clients are imported by it and never used here; names in their places spare their dependencies."""
    spec = importlib.util.find_spec("agentdojo")
    assert spec is not None and spec.origin is not None
    pipeline = types.ModuleType("agentdojo.agent_pipeline")
    pipeline.__path__ = [str(Path(spec.origin).parent / "agent_pipeline")]
    sys.modules["agentdojo.agent_pipeline"] = pipeline
    for name in ("agentdojo.agent_pipeline.llms", "agentdojo.agent_pipeline.llms.google_llm"):
        empty: Any = types.ModuleType(name)
        empty.__path__, empty.EMPTY_FUNCTION_NAME = [], "<empty-function-name>"
        sys.modules[name] = empty


class Suite:
    """One suite with the environment that its tools work on just now."""

    def __init__(self, suite: Any) -> None:
        from agentdojo.functions_runtime import FunctionsRuntime

        self.suite, self.runtime = suite, FunctionsRuntime(suite.tools)
        self.lock = threading.Lock()
        self.vectors: list[str] = sorted(suite.get_injection_vector_defaults())
        self.began: Any = None
        self.environment: Any = None
        self.traces: list[Any] = []
        self.fresh("")

    def fresh(self, injection: str) -> None:
        """A new environment; `injection` stands in all places where outsiders write."""
        places = dict.fromkeys(self.vectors, injection.replace("\n", " ").replace('"', "'")) if injection else {}
        self.environment = self.suite.load_and_inject_default_environment(places)
        self.began = self.environment.model_copy(deep=True)
        self.traces = []

    def calls(self, task: str) -> list[dict[str, Any]]:
        """The ground truth of a task in this environment."""
        found = self.suite.get_user_task_by_id(task) if task in self.suite.user_tasks else None
        found = found or self.suite.get_injection_task_by_id(task)
        plain = found.ground_truth(self.suite.load_and_inject_default_environment({}))
        return [{"tool": call.function, "arguments": _flat(dict(call.args))} for call in plain]

    def call(self, tool: str, arguments: dict[str, Any]) -> tuple[str, bool]:
        """What it answers, as AgentDojo tells it to models, and whether that is an error."""
        from agentdojo.agent_pipeline.tool_execution import tool_result_to_str
        from agentdojo.functions_runtime import FunctionCall

        whole = _whole(arguments)
        self.traces.append(FunctionCall(function=tool, args=whole))
        result, error = self.runtime.run_function(self.environment, tool, whole)
        return (error, True) if error else (tool_result_to_str(result), False)

    def judge(self, task: str) -> bool:
        """Whether what has happened is what the task is about."""
        if task in self.suite.user_tasks:
            found = self.suite.get_user_task_by_id(task)
            output = found.GROUND_TRUTH_OUTPUT
            told = found.utility_from_traces(output, self.began, self.environment, self.traces)
            return bool(found.utility(output, self.began, self.environment) if told is None else told)
        found = self.suite.get_injection_task_by_id(task)
        output = found.GROUND_TRUTH_OUTPUT
        told = found.security_from_traces(output, self.began, self.environment, self.traces)
        return bool(found.security(output, self.began, self.environment) if told is None else told)

    def tools(self) -> list[dict[str, Any]]:
        """As MCP lists them."""
        listed = []
        for tool in self.suite.tools:
            schema = tool.parameters.model_json_schema()
            if "attachments" in schema.get("properties", {}):
                ids = {"type": "array", "items": {"type": "string"}, "description": "ids of files"}
                schema["properties"]["attachments"] = ids
            schema.pop("$defs", None)
            listed.append({"name": tool.name, "description": tool.description, "inputSchema": schema})
        return listed


def _flat(arguments: dict[str, Any]) -> dict[str, Any]:
    """Without what is null, and attachments by their ids."""
    flat = {name: value for name, value in arguments.items() if value is not None}
    if "attachments" in flat:
        flat["attachments"] = [one["file_id"] if isinstance(one, dict) else one for one in flat["attachments"]]
    return flat


def _whole(arguments: dict[str, Any]) -> dict[str, Any]:
    if "attachments" in arguments:
        files = [{"type": "file", "file_id": one} for one in arguments["attachments"]]
        return {**arguments, "attachments": files}
    return arguments


class Handler(BaseHTTPRequestHandler):
    """One request; `suites` is set where the server is made."""

    suites: ClassVar[dict[str, Suite]] = {}
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is logged."""

    def do_GET(self) -> None:
        if self.path == "/suites":
            self._answer({name: _about(suite) for name, suite in self.suites.items()})
        else:
            self._answer({}, 405)

    def do_DELETE(self) -> None:
        self._answer({}, 405)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"{}")
        if self.path.startswith("/mcp/"):
            suite = self.suites[self.path.removeprefix("/mcp/")]
            with suite.lock:
                answer = _mcp(suite, body)
            self._answer(answer, 200 if answer else 202)
            return
        suite = self.suites[body["suite"]]
        with suite.lock:
            if self.path == "/calls":
                self._answer({"calls": suite.calls(body["task"])})
            elif self.path == "/begin":
                suite.fresh(body.get("injection", ""))
                self._answer({"calls": suite.calls(body["task"])})
            else:
                self._answer({"so": suite.judge(body["task"])})

    def _answer(self, body: dict[str, Any], status: int = 200) -> None:
        encoded = json.dumps(body).encode() if body else b""
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(encoded)))
        self.end_headers()
        self.wfile.write(encoded)


def _about(suite: Suite) -> dict[str, Any]:
    return {
        "tools": [tool.name for tool in suite.suite.tools],
        "user_tasks": {task.ID: task.PROMPT for task in suite.suite.user_tasks.values()},
        "injections": {task.ID: task.GOAL for task in suite.suite.injection_tasks.values()},
    }


def _mcp(suite: Suite, said: dict[str, Any]) -> dict[str, Any]:
    """The answer to one message; empty for a notification."""
    params = said.get("params") or {}
    match said.get("method"):
        case "initialize":
            result: dict[str, Any] = {
                "protocolVersion": params.get("protocolVersion", PROTOCOL),
                "capabilities": {"tools": {}},
                "serverInfo": {"name": "agentdojo", "version": "1"},
            }
        case "tools/list":
            result = {"tools": suite.tools()}
        case "tools/call":
            text, failed = suite.call(params["name"], params.get("arguments") or {})
            result = {"content": [{"type": "text", "text": text}], "isError": failed}
        case "ping":
            result = {}
        case _ if "id" not in said:
            return {}
        case other:
            return {"jsonrpc": "2.0", "id": said["id"], "error": {"code": -32601, "message": f"no method {other}"}}
    return {"jsonrpc": "2.0", "id": said["id"], "result": result}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--version", default="v1")
    parser.add_argument("--port-file", type=Path, required=True)
    asked = parser.parse_args()
    _without_models()
    from agentdojo.task_suite.load_suites import get_suites

    Handler.suites = {name: Suite(suite) for name, suite in get_suites(asked.version).items()}
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    asked.port_file.write_text(str(server.server_port))
    server.serve_forever()


if __name__ == "__main__":
    main()

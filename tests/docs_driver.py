"""Run what a page says, in order, in the working directory: ``python docs_driver.py < STEPS.json``.

A page's programs share one namespace, as in a notebook, and its commands what they export.
"""

import json
import subprocess
import sys
from pathlib import Path

# Each block is a shell of its own that begins with what the one before it exported.
SHELL = """set -eo pipefail
if [ -f .exported ]; then . ./.exported; fi
trap 'export -p >.exported' EXIT
{}
"""


def main():
    namespace = {"__name__": "__page__"}
    sys.path.insert(0, str(Path.cwd()))
    for step in json.load(sys.stdin):
        print(f"== {step['page']}:{step['line']}\n{step['text']}", flush=True)
        if step["kind"] == "sh":
            script = SHELL.format(step["text"])
            code = subprocess.run(["bash", "-c", script], stdin=subprocess.DEVNULL).returncode
            if code:
                sys.exit(f"{step['page']}:{step['line']}: exit code {code}")
        else:
            # Lines are counted as on the page, so that a traceback names the page's own.
            exec(compile("\n" * (step["line"] - 1) + step["text"], step["page"], "exec"), namespace)
    print("== done", flush=True)


if __name__ == "__main__":
    main()

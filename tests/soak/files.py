"""Files that are damaged or made by a stranger, and what must come of reading them.

Each is read in a process of its own, which must end by itself: the file is refused in one line, or read. What is
damaged, or forged with the right checksums, reads as exactly what was written; no reading takes more memory than twice
the file and ``CONSTANT``.
"""

import json
import os
import random
import resource
import signal
import sys
import traceback
from collections import Counter

import numpy as np

from qtrl_hpc.checkpoint import Checkpoint, TrainingState
from qtrl_hpc.cli import parse_train
from qtrl_hpc.config import Config
from qtrl_hpc.errors import UserError
from qtrl_hpc.generator import Theta
from qtrl_hpc.inference import Policy, load_policy, parameter_shapes
from qtrl_hpc.noise import noise_settings, read_noise
from qtrl_hpc.onnx_export import encode, to_onnx
from qtrl_hpc.optimizer import OptimizerState
from qtrl_hpc.policy import PolicySpec
from qtrl_hpc.policy_file import PolicyFile
from qtrl_hpc.reinforce import Baseline
from soak import strangers
from soak.checksums import blocks, seal

CONSTANT = 96 * 2**20
CPU_SECONDS, SECONDS = 20, 600  # the machine may be busy with other things
MOST_MEMORY = 6 * 2**30
READ, REFUSED, WRONG = 10, 11, 12


class Tally:
    """How many files of each kind were read, refused, or did harm."""

    def __init__(self):
        self.counts = Counter()
        self.most = Counter()
        self.problems = []

    def table(self):
        """Return rows: kind of file, what was done to it, how many, refused, read, most memory."""
        if not self.counts:
            return []
        lines = [
            "| file | what was done to it | files | refused | read as it was, or well-formed | other "
            "| most memory beyond twice the file |",
            "|---|---|---|---|---|---|---|",
        ]
        for kind, what in sorted({key[:2] for key in self.counts}):
            found = {end: count for (*key, end), count in self.counts.items() if key == [kind, what]}
            good = found.get("refused", 0) + found.get("read", 0)
            most = self.most[kind, what] / 2**20
            lines.append(
                f"| {kind} | {what} | {sum(found.values())} | {found.get('refused', 0)} | {found.get('read', 0)} "
                f"| {sum(found.values()) - good} | {most:.0f} MiB |"
            )
        lines.append(f"| all | | {sum(self.counts.values())} | | | {len(self.problems)} | |")
        return lines


# --- whole files


def write_checkpoint(path):
    """Write a checkpoint such as training does, with the episodes that agents are in."""
    spec, rng = _spec(), np.random.default_rng(0)
    config = Config(env_id="CartPole-v1", policy_hidden_sizes=(8,))
    state = TrainingState(
        update=7,
        Theta=Theta(rng.normal(size=300), 60),
        optimizer=OptimizerState(first=rng.normal(size=300), second=rng.random(300), steps=7),
        baseline=Baseline(weight=0.1, mean=1 / 3, mean_square=0.2),
    )
    theta = rng.normal(size=spec.num_parameters)
    Checkpoint(state=state, theta=theta, config=config, policy_spec=spec, num_agents=2, world_size=2).save(path)


def write_policy(path):
    """Write a policy file."""
    _policy_file().save(path)


def write_safetensors(path):
    """Write the same policy as safetensors."""
    file = _policy_file()
    path.write_bytes(file.to_safetensors(parameter_shapes(Policy(file.spec, file.theta))))


def write_onnx(path):
    """Write the same policy as ONNX."""
    file = _policy_file()
    policy = Policy(file.spec, file.theta)
    path.write_bytes(encode(to_onnx(policy), file.texts(parameter_shapes(policy))))


def _policy_file():
    theta = np.random.default_rng(1).normal(size=_spec().num_parameters)
    return PolicyFile(theta=theta, spec=_spec(), env_id="CartPole-v1", provenance={"update": 7})


def _spec():
    return PolicySpec(
        obs_shape=(4,),
        hidden_sizes=(8,),
        num_actions=2,
        activation="relu",
        observation_key=None,
        observation_scale=1.0,
    )


CONFIG = "layers: 3\npolicy_hidden_sizes: [8, 4]\nlearning_rate: 1e-3\nqpu: statevector\nseed: 5\nnoise: null\n"
NOISE = "one_qubit_rate: 3.0e-4\nt1: 1.0e-4\nt2: 8.0e-5\none_qubit_time: 35e-9\nreadout_error: [0.01, 1e-2]\n"


# --- reading: what is found in a file, as bytes that can be compared


def read_checkpoint(path):
    """Read a checkpoint to what a resumed run would use."""
    found = Checkpoint.load(path)
    texts = [json.dumps(found.config.to_dict()), found.policy_spec.to_json(), found.theta_source]
    numbers = [found.num_agents, found.world_size, found.state.Theta.num_angles]
    return found.state.to_vector().tobytes() + found.theta.tobytes() + repr((texts, numbers)).encode()


def read_policy(path):
    """Read a policy as inference does."""
    found = load_policy(path)
    found.probabilities(np.zeros(found.spec.obs_shape))
    weights = b"".join(value.detach().numpy().tobytes() for value in found.parameters())
    return found.spec.to_json().encode() + weights


def read_config(path):
    """Read a configuration as the command line does, to the values that other ranks get."""
    return parse_train([f"--config={path}"]).to_json().encode()


def read_noise_file(path):
    """Read a noise file as ``--noise`` does."""
    text = read_noise(str(path))
    noise_settings(text)
    return text.encode()


KINDS = {
    "checkpoint": (write_checkpoint, read_checkpoint),
    "policy": (write_policy, read_policy),
    "safetensors": (write_safetensors, read_policy),
    "onnx": (write_onnx, read_policy),
    "config": (lambda path: path.write_text(CONFIG), read_config),
    "noise": (lambda path: path.write_text(NOISE), read_noise_file),
}
REFUSALS = {"noise": (UserError, ValueError)}  # parse_train makes one of the other


# --- damage


def damage(content, rng):
    """Return what was done and the file's damaged bytes, or the same as a stranger would: with the right checksums."""
    whole, changed = content, bytearray(content)
    what = rng.choice(
        ["bits flipped", "bytes zeroed", "blocks swapped", "truncated", "rubbish appended", "bytes drawn"]
    )
    if what == "bits flipped":
        for _ in range(rng.choice([1, 1, 1, 2, 8, 100])):
            changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    elif what in ("bytes zeroed", "bytes drawn"):
        size = rng.choice([1, 4, 8, 64, 512, 4096])
        start = rng.randrange(len(changed))
        size = len(changed[start : start + size])
        changed[start : start + size] = bytes(size) if what == "bytes zeroed" else rng.randbytes(size)
    elif what == "blocks swapped":
        size = rng.choice([8, 64, 512, 4096])
        size = min(size, len(changed) // 2)
        one, other = rng.randrange(len(changed) - size), rng.randrange(len(changed) - size)
        changed[one : one + size], changed[other : other + size] = whole[other : other + size], whole[one : one + size]
    elif what == "truncated":
        del changed[rng.randrange(len(changed)) :]
    else:
        changed += rng.randbytes(rng.choice([1, 8, 4096]))
    return what, bytes(changed)


def forge(content, parts, rng):
    """Return a file of which a part of the headers says something else, its checksum the right one."""
    changed = bytearray(content)
    for start, length in rng.sample(parts, rng.choice([1, 1, 2])):
        for _ in range(rng.choice([1, 1, 2, 4])):
            place = start + rng.randrange(4, length)
            size = min(rng.choice([1, 1, 2, 4, 8]), start + length - place)
            how = rng.randrange(5)
            if how == 0:
                changed[place] ^= 1 << rng.randrange(8)
            elif how == 1:
                changed[place : place + size] = rng.randbytes(size)
            elif how == 2:
                changed[place : place + size] = b"\xff" * size
            elif how == 3:
                changed[place : place + size] = bytes(size)
            else:
                other = start + rng.randrange(4, length)
                changed[place : place + size] = content[other : other + size].ljust(size, b"\0")
        seal(changed, start, length)
    return bytes(changed)


def draw(seed, number, whole, parts, path):
    """Write a case's file; return its kind, what was done to it, and what may be read from it (None: anything)."""
    rng = random.Random(f"{seed}/file/{number}")
    kind = rng.choices([*KINDS], [5, 3, 2, 2, 1, 1])[0]
    if kind in ("safetensors", "onnx"):
        if rng.random() < 0.5:
            what, content = damage(whole[kind], rng)
            path.write_bytes(content)
            return kind, what, True
        write = strangers.write_safetensors if kind == "safetensors" else strangers.write_onnx
        return kind, f"made by a stranger: {write(path, whole[kind], rng)}", False
    if kind in ("checkpoint", "policy"):
        way = rng.choices(["damaged", "forged", "strange"], [5, 3, 2])[0]
        if way == "damaged":
            what, content = damage(whole[kind], rng)
            path.write_bytes(content)
            return kind, what, True
        if way == "forged":
            path.write_bytes(forge(whole[kind], parts[kind], rng))
            return kind, "forged headers with the right checksums", True
        what = strangers.write_hdf5(path, kind, whole[kind], rng)
        return kind, f"made by a stranger: {what}", False
    what, text = strangers.yaml_text(CONFIG if kind == "config" else NOISE, kind, rng)
    path.write_bytes(text)
    return kind, what, False


# --- trying


def run_batch(seed, first, count, folder, tally):
    """Read so many files, each in a process of its own; return what was not as it must be, and add it to a tally."""
    folder = folder / "files"
    folder.mkdir(exist_ok=True)
    whole, expected, parts = {}, {}, {}
    for kind, (write, read) in KINDS.items():
        path = folder / f"whole-{kind}"
        write(path)
        whole[kind], expected[kind] = path.read_bytes(), read(path)
        if kind in ("checkpoint", "policy"):
            parts[kind] = blocks(whole[kind])
    strangers.pwned(folder)
    found, path = [], folder / "file"
    os.chdir(folder)
    for number in range(first, first + count):
        path.unlink(missing_ok=True)
        kind, what, same = draw(seed, number, whole, parts, path)
        end, memory, said = _read_apart(kind, path, expected[kind] if same else None, folder / "said")
        beyond = memory - 2 * path.stat().st_size
        tally.counts[kind, what, end] += 1
        tally.most[kind, what] = max(tally.most[kind, what], beyond)
        if end in ("read", "refused") and beyond > CONSTANT:
            end = f"{beyond / 2**20:.0f} MiB beyond twice the file"
        if strangers.pwned(folder):
            end = "ran what the file says"
        if end not in ("read", "refused"):
            kept = folder / f"bad-{number}"
            kept.write_bytes(path.read_bytes())
            found.append(f"file {number} ({kind}, {what}; {kept}): {end} {said}")
    tally.problems += found
    return found


def _read_apart(kind, path, expected, note):
    """Read a file in a fork; return how that ended, the bytes of memory that it took, and what it said."""
    note.write_text("")
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        os._exit(_read(kind, path, expected, note))
    _, status, _ = os.wait4(pid, 0)
    said = note.read_text()
    taken = int(said.partition("\n")[0] or 0)
    said = said.partition("\n")[2]
    if os.WIFSIGNALED(status):
        return f"died of {signal.Signals(os.WTERMSIG(status)).name}", taken, said
    ends = {READ: "read", REFUSED: "refused"}
    return ends.get(os.WEXITSTATUS(status), "went wrong"), taken, said


def _read(kind, path, expected, note):
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(SECONDS)
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    before, code, said = _memory("VmRSS"), READ, ""
    try:
        found = KINDS[kind][1](path)
        if expected is not None and found != expected:
            code, said = WRONG, "reads as something else"
    except REFUSALS.get(kind, UserError) as error:
        code, said = REFUSED, str(error)
        if "\n" in said or not said or len(said) > 2000:
            code = WRONG
    except BaseException:
        code, said = WRONG, traceback.format_exc(limit=-4)
    note.write_text(f"{max(0, _memory('VmHWM') - before)}\n{said[:3000]}")
    return code


def _memory(name):
    """Return this process's memory in bytes: VmRSS now, VmHWM the most since it was forked."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(name))

"""Turn a checkpoint into a policy file: ``python -m qtrl_hpc.export RUN_DIR --output policy.h5``."""

import sys
from pathlib import Path

from qtrl_hpc import hdf5
from qtrl_hpc.checkpoint import NEWEST, Checkpoint
from qtrl_hpc.cli import OneLineParser, run_refusing
from qtrl_hpc.errors import EXIT_DONE, UserError
from qtrl_hpc.policy_file import PolicyFile
from qtrl_hpc.provenance import versions


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    return run_refusing(lambda: export(sys.argv[1:] if argv is None else argv))


def export(argv: list[str]) -> int:
    """Read the command line, write the policy file and say what it holds.

    Raises:
        UserError: naming the flag or file, what was got and what is expected.
    """
    parser = OneLineParser(prog="qtrl_hpc.export", description=__doc__, allow_abbrev=False)
    parser.add_argument(
        "source", type=Path, help="directory of a run (its checkpoint.h5 is taken), or a checkpoint file"
    )
    parser.add_argument("--output", type=Path, required=True, help="policy file to write, ending in .h5")
    options = parser.parse_args(argv)
    output: Path = options.output
    if output.suffix != ".h5":
        raise UserError(f"--output: got {output}, expected a name that ends in .h5")
    if not output.parent.is_dir():
        raise UserError(f"--output: got {output}, whose folder does not exist")
    checkpoint = Checkpoint.load(options.source / NEWEST if options.source.is_dir() else options.source)
    policy = policy_from(checkpoint)
    try:
        _check_replaceable(output)
        policy.save(output)
    except OSError as error:
        raise UserError(f"--output: got {output}, which cannot be written ({error.strerror})") from error
    print(
        f"{output}: policy {policy.spec.shape}, {policy.spec.num_parameters} weights, "
        f"after {checkpoint.state.update} updates of "
        f"{checkpoint.num_agents} agents in {policy.env_id}\n  next  python -m qtrl_hpc.evaluate {output}"
    )
    return EXIT_DONE


def _check_replaceable(output: Path) -> None:
    """Refuse to overwrite anything but a policy file."""
    if not output.exists():
        return
    try:
        PolicyFile.load(output)
    except UserError as error:
        raise UserError(f"--output: got {output}, which exists and is no policy file that could be replaced") from error


def policy_from(checkpoint: Checkpoint) -> PolicyFile:
    """Return the policy that a checkpoint's theta is, with where it comes from."""
    trained = checkpoint.state.Theta
    return PolicyFile(
        theta=checkpoint.theta,
        spec=checkpoint.policy_spec,
        env_id=checkpoint.config.env_id,
        provenance={
            "config": checkpoint.config.to_dict(),
            "update": checkpoint.state.update,
            "num_agents": checkpoint.num_agents,
            "theta_source": checkpoint.theta_source,
            "num_trained": int(trained.vector.size),
            "Theta_digest": hdf5.content_digest({}, {"phi": trained.phi, "beta": trained.beta}),
            "versions": versions(),
        },
    )


if __name__ == "__main__":
    sys.exit(main())

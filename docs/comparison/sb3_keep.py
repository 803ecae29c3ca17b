"""Save, go on with and look into an A2C of Stable-Baselines3: ``python docs/comparison/sb3_keep.py``.

pip install stable-baselines3==2.9.2 safetensors
"""

import json
import tempfile
import zipfile
from pathlib import Path

import gymnasium
import torch
from safetensors.torch import save_file
from stable_baselines3 import A2C


def weights(model: A2C) -> torch.Tensor:
    """Return what was trained, in one piece."""
    return torch.nn.utils.parameters_to_vector(model.policy.parameters()).detach()


def main() -> None:
    """Print what is in the file, and whether a run that went on is the one that never stopped."""
    folder = Path(tempfile.mkdtemp())
    whole, first = (A2C("MlpPolicy", gymnasium.make("CartPole-v1"), seed=0, device="cpu") for _ in range(2))
    whole.learn(2000)
    first.learn(1000)
    first.save(folder / "a2c.zip")
    with zipfile.ZipFile(folder / "a2c.zip") as archive:
        values = json.loads(archive.read("data")).values()
        print(
            archive.namelist(), sum(isinstance(value, dict) and ":serialized:" in value for value in values), "pickles"
        )
    second = A2C.load(folder / "a2c.zip", env=gymnasium.make("CartPole-v1"))
    second.learn(1000, reset_num_timesteps=False)
    print("same bits after going on:", torch.equal(weights(whole), weights(second)))
    save_file(second.policy.state_dict(), folder / "a2c.safetensors")
    try:
        A2C("MlpPolicyy", gymnasium.make("CartPole-v1"))
    except ValueError as error:
        print("a mistyped name:", error)


if __name__ == "__main__":
    main()

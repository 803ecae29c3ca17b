"""A notebook as a script: docs/api.md explains it. Or: python docs/examples/notebook.py.

Cells begin with "# %%", as Jupyter (by jupytext), VS Code and Spyder read them.
"""

# %%
from dataclasses import replace

import gymnasium
import minigrid  # noqa: F401  # registers MiniGrid's environments

from qtrl_hpc import export, load_policy, preset, train

# %% Train four agents in this process. Interrupt the kernel, and the result is what was reached so far.
config = preset("tuned", qpu="statevector", agents_per_rank=4, updates=300, seed=1)
result = train(config)
print(result)

# %% How the reward went, in blocks of 50 updates.
for start in range(0, result.update, 50):
    print(f"updates {start + 1:3d} to {start + 50:3d}: {result.rewards[start : start + 50].mean():.3f}")

# %% The policy is a torch module; the environment is Gymnasium's.
policy = result.policy()
env = gymnasium.make(config.env_id)
obs, _ = env.reset(seed=0)
total, over = 0.0, False
while not over:
    obs, reward, terminated, truncated, _ = env.step(policy.act(obs))
    total, over = total + float(reward), terminated or truncated
print(f"an episode of the most probable actions: {total:.3f}")

# %% Go on to more updates, in the same directory.
longer = train(replace(config, updates=600), run_dir=result.run_dir, resume=True)
print(longer)

# %% For people who have none of this: a file, and what reads it.
export.main([str(longer.run_dir), "--output", str(longer.run_dir / "policy.h5")])
print(load_policy(longer.run_dir / "policy.h5").probabilities(obs))

"""A policy without qtrl_hpc and torch: python onnxruntime_alone.py policy.onnx observations.npy."""

import sys

import numpy as np
import onnxruntime

session = onnxruntime.InferenceSession(sys.argv[1])
observations = np.load(sys.argv[2]).astype(np.float32)
logits, probabilities = session.run(["logits", "probabilities"], {"observation": observations})
print(*probabilities.argmax(axis=1).tolist())

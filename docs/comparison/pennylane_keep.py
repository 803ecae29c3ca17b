"""Keep a hybrid policy of PennyLane in other formats, draw a circuit: ``python docs/comparison/pennylane_keep.py``.

pip install pennylane==0.45.1 torch safetensors onnx onnxscript matplotlib
"""

import tempfile
from pathlib import Path

import pennylane as qml
import torch
from safetensors.torch import save_file


def main() -> None:
    """Print of each whether it worked."""
    folder = Path(tempfile.mkdtemp())

    def node(inputs, weights):  # type: ignore[no-untyped-def]
        qml.AngleEmbedding(inputs, wires=range(4))
        qml.StronglyEntanglingLayers(weights, wires=range(4))
        return [qml.expval(qml.PauliZ(wire)) for wire in range(4)]

    shape = qml.StronglyEntanglingLayers.shape(n_layers=2, n_wires=4)
    qnode = qml.QNode(node, qml.device("default.qubit", wires=4))
    layer = qml.qnn.TorchLayer(qnode, {"weights": shape})
    policy = torch.nn.Sequential(torch.nn.Linear(147, 4), layer, torch.nn.Linear(4, 3)).eval()
    save_file(policy.state_dict(), folder / "policy.safetensors")
    torch.save(policy.state_dict(), folder / "policy.pt")
    policy.load_state_dict(torch.load(folder / "policy.pt", weights_only=True))
    figure, _ = qml.draw_mpl(qnode)(torch.zeros(4), torch.zeros(shape))
    figure.savefig(folder / "circuit.png")
    print("written:", sorted(path.name for path in folder.iterdir()))
    try:
        torch.onnx.export(policy, (torch.rand(2, 147),), folder / "policy.onnx", verbose=False)
        print("ONNX: exported")
    except torch.onnx.errors.OnnxExporterError as error:
        reason = [line for line in str(error.__cause__ or error).splitlines() if "complex" in line]
        print("ONNX:", type(error).__name__, *reason[:1])
    try:
        qml.device("defualt.qubit", wires=2)
    except qml.exceptions.DeviceError as error:
        print("a mistyped name:", error)


if __name__ == "__main__":
    main()

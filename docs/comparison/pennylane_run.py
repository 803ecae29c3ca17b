"""What of PennyLane was tried: ``python docs/comparison/pennylane_run.py``; pip install pennylane==0.45.1 torch.

A hybrid policy trained by torch, parameter shift with shots, a noisy device, its own optimiser.
"""

import pennylane as qml
import torch


def entangled(weights):  # type: ignore[no-untyped-def]
    """Apply layers of rotations and CNOTs."""
    qml.StronglyEntanglingLayers(weights, wires=range(4))


def main() -> None:
    """Print a result of each."""
    shape = qml.StronglyEntanglingLayers.shape(n_layers=2, n_wires=4)

    def node(inputs, weights):  # type: ignore[no-untyped-def]
        qml.AngleEmbedding(inputs, wires=range(4))
        entangled(weights)
        return [qml.expval(qml.PauliZ(wire)) for wire in range(4)]

    torch.manual_seed(0)
    layer = qml.qnn.TorchLayer(qml.QNode(node, qml.device("default.qubit", wires=4)), {"weights": shape})
    policy = torch.nn.Sequential(torch.nn.Linear(147, 4), layer, torch.nn.Linear(4, 3))
    optimizer = torch.optim.Adam(policy.parameters(), 0.05)
    obs, actions = torch.rand(8, 147), torch.arange(8) % 3
    for _ in range(10):
        loss = torch.nn.functional.cross_entropy(policy(obs), actions)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print("hybrid torch policy, loss after 10 steps:", loss.item())

    def cost(weights):  # type: ignore[no-untyped-def]
        entangled(weights)
        return qml.expval(qml.PauliZ(0))

    weights = qml.numpy.array(qml.numpy.random.default_rng(0).uniform(0, 6, shape), requires_grad=True)
    exact = qml.QNode(cost, qml.device("default.qubit", wires=4), diff_method="backprop")
    sampled = qml.set_shots(qml.QNode(cost, qml.device("default.qubit", wires=4), diff_method="parameter-shift"), 1000)
    gradients = [qml.grad(node)(weights).sum() for node in (exact, sampled)]
    print("sum of the gradient by backprop, and by parameter shift of 1000 shots:", *gradients)

    def noisy(weights):  # type: ignore[no-untyped-def]
        entangled(weights)
        qml.DepolarizingChannel(0.1, wires=0)
        return qml.expval(qml.PauliZ(0))

    print("exact and noisy:", exact(weights), qml.QNode(noisy, qml.device("default.mixed", wires=4))(weights))
    descent, natural = qml.SPSAOptimizer(maxiter=20), qml.QNGOptimizer(0.1)
    for _ in range(5):
        weights = natural.step(exact, weights)
    print("after 5 steps of natural gradient:", exact(weights), "and one of SPSA:", exact(descent.step(exact, weights)))


if __name__ == "__main__":
    main()

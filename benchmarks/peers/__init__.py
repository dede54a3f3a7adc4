"""The contenders, a file each, with a class Peer: same network, data, batches and optimizer, as its users would write it.

    Peer(data, threads, variant)      data: images, labels, test_images, test_labels, mean, std, and trained parameters
    peer.version                      what it is, in words
    peer.train(batch, images)         that many images in shuffled order: gathered from uint8 and normalised, forward, loss,
                                      backward, SGD with Nesterov momentum; returns the mean loss
    peer.infer(batch, images)         that many test images, normalised beforehand; returns the accuracy

Training starts from the trained parameters at each call, with a rate of LR, so that ReLU's zeros are those of real training.
"""

LR, MOMENTUM = 0.005, 0.9
PARAMETERS = [f"{layer}.{part}" for layer in ("conv1", "conv2", "fc1", "fc2") for part in ("weight", "bias")]

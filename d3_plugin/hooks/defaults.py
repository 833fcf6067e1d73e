"""What a host gets that no plugin speaks for: the conventions of the field's scripts."""

from __future__ import annotations

import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from d3_plugin.errors import HostError
from d3_plugin.hooks.specs import hookimpl
from d3_plugin.hosts.call_form import call_generator, noise_width
from d3_plugin.hosts.host import Host, Scorer


@hookimpl(trylast=True)
def d3_synthesize_features(host: Host, class_ids: Tensor, differentiable: bool) -> Tensor:
    """The generator on standard normal noise and attributes, or the script's own function."""
    attributes = host.data.attributes[class_ids]
    if host.synthesize is not None:
        return host.synthesize(class_ids, attributes)
    width = host.noise_dim or noise_width(host.generator, attributes.shape[1])
    noise = torch.randn(len(class_ids), width, device=attributes.device)
    try:
        features = call_generator(host.generator, noise, attributes)
    except torch.cuda.OutOfMemoryError:
        raise
    except (TypeError, RuntimeError) as error:
        raise HostError(
            f"calling generator(noise {tuple(noise.shape)}, attributes "
            f"{tuple(attributes.shape)}) failed: {error}. If the noise has another width pass "
            "attach(noise_dim=...); if the generator is called in another way pass "
            "attach(synthesize=lambda class_ids, attributes: ...)"
        ) from error
    return features


@hookimpl(trylast=True)
def d3_transform_features(host: Host, features: Tensor) -> Tensor:
    """The features themselves."""
    return features


@hookimpl(trylast=True)
def d3_train_classifier(host: Host, features: Tensor, labels: Tensor, num_classes: int) -> Scorer:
    """The script's own function, or scikit-learn's logistic regression."""
    if host.train_classifier is not None:
        return host.train_classifier(features, labels, num_classes)
    model = LogisticRegression(max_iter=1000).fit(features.cpu().numpy(), labels.cpu().numpy())

    def score(rows: Tensor) -> Tensor:
        log_p = torch.from_numpy(model.predict_log_proba(rows.cpu().numpy()))
        return log_p.to(rows.device, torch.float32)

    return score

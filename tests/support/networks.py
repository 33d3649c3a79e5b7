"""Networks of cnncore.models in sizes that tests have time for."""

SMALLER = {  # what makes large networks small
    "vgg": {"configuration": "A", "size": 32, "classes": 10},
    "spp_net": {"classes": 10, "levels": (3, 1)},
    "resnet50": {"classes": 10},
}

"""App Container vocabulary: image and pod manifests, ACI archives, image IDs. Knows neither rkt nor systemd."""

"""``python digits.py FILE``: the network of the explorer of branches, trained as tools/inception_study.py does (20 s)."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from inception_study import accuracy, data, trained

train, x, labels = data()
net = trained(train, seed=0)
net.save(sys.argv[1])
print(f"{sys.argv[1]}: {accuracy(net, x, labels):.1%} of {len(labels)} held-out digits")

"""List of the public names: type checkers read it, and `__init__.py` imports the names lazily from it."""

from resnets.api import Bundle as Bundle
from resnets.api import ImageDataset as ImageDataset
from resnets.api import create_model as create_model
from resnets.api import evaluate as evaluate
from resnets.api import load as load
from resnets.api import predict as predict
from resnets.api import train as train
from resnets.api import transforms as transforms
from resnets.arch.config import ResNetConfig as ResNetConfig
from resnets.arch.describe import describe as describe
from resnets.arch.plan import plan as plan
from resnets.arch.preprocessing import Preprocessing as Preprocessing
from resnets.arch.variants import get_config as get_config
from resnets.arch.variants import list_models as list_models
from resnets.arch.vgg import VGGConfig as VGGConfig
from resnets.errors import ResnetsError as ResnetsError
from resnets.nn.model import VGG as VGG
from resnets.nn.model import FeatureExtractor as FeatureExtractor
from resnets.nn.model import ResNet as ResNet
from resnets.retrieve.embeddings import Embeddings as Embeddings
from resnets.retrieve.reid import ReidOptions as ReidOptions
from resnets.retrieve.reid import reid_eval as reid_eval
from resnets.version import __version__ as __version__
from resnets.weights.convert import convert as convert
from resnets.weights.export import save_weights as save_weights
from resnets.weights.load import import_weights as import_weights
from resnets.weights.registry import list_pretrained as list_pretrained

__all__: list[str]

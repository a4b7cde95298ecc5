# The names for rules of users, and their modules; lazy-loader reads this table at run time too.

from .driver import Driver as Driver
from .driver import Package as Package
from .outcomes import Lenient as Lenient
from .outcomes import Refused as Refused
from .outcomes import Unmeasured as Unmeasured
from .outcomes import expect as expect
from .outcomes import expect_effect as expect_effect
from .outcomes import expect_strict as expect_strict
from .outcomes import fail as fail
from .registry import RuleError as RuleError
from .registry import check as check
from .reply import Reply as Reply
from .target import HTTPExchange as HTTPExchange
from .target import Target as Target

r"""The phrases in which a response speaks of the answer that it gave: states another one, denies it, doubts it,
confirms it.

Patterns only; what they come to is `pipeline.rewards.retraction`. Sentences that they are tried on are bounded in
length there.
"""

from __future__ import annotations

import re

_N_T = "n['\u2019]t"
_OWN = r"(?:final|correct|right|actual|true|real|proper|revised|corrected|updated|new)"
_I_CORRECT = r"(?:let me|i (?:need|have|want) to|i (?:should|must|will)|i'll) correct"

VALUE = re.compile(
    r"[\s*_:]*(?:(?:exactly|only|just|simply|then|now|therefore|thus|hence|indeed|actually|instead|still|also|really|"
    r"about|approximately|roughly|around|either|maybe|perhaps|possibly|probably|likely|equal to|given "
    r"by|option|choice|"
    r"a total of|\$?\\approx|\$?\u2248)[\s,:*_]+)*"
    r"(?P<value>(?:[-+\u2212\u00b1(\[{|\u221a\d\u00bc-\u00be\u2150-\u215e\u03c0\u20ac\u00a3$]|\\[A-Za-z$({\[]|[A-Za-z]\s?=|"
    r"[A-H](?![\w'])|(?:yes|no|true|false|even|odd|none)\b|[A-Z][a-z]+\b).*)",
    re.DOTALL,
)
"""What a statement's value can begin with, behind words that change nothing."""
VALUE_END = re.compile(
    r"[*\s]*(?:,\s*(?:because|since|which|where|as|so|not|but|instead|and not|that is|i\.e)\b|,\s*or\b(?=[^\d\\]*$)|"
    r"\s(?:because|since|instead|rather than|not|when|if|but|where)\b|;|\u2014|\s\()",
    re.IGNORECASE,
)
COMPARES = re.compile(
    r"\d[\s$]*(?:times|%? (?:less|more|fewer|greater|larger|smaller|higher|lower)|digits?|decimals?|significant)\b",
    re.IGNORECASE,
)
"""A number that says by how much, and not how many."""
CHOICE = re.compile(r"[\s(*$]*(?:\\text\w*\{)?\s*\(?[A-H]\)?[\s})*$.]*")
WORDS = re.compile(r"[\s$*]*(?:\\(?:text|mathrm)\w*\s*\{)?[A-Za-z][A-Za-z ,'-]+\}?[\s$*.]*")

ANSWER_IS = re.compile(
    rf"(?:\b(?:the|our|my|so|this|thus)\b |^\W*)(?P<sure>(?:{_OWN} )*)"
    r"(?:answers?|(?<=correct )(?:option|choice)|(?<=right )(?:option|choice)|(?<=final "
    r")(?:value|result)(?=:))(?![a-z])"
    r"(?: (?:to|for|of) (?:the|this) (?:\w+ )?(?:problem|question|exercise)\b)?[\s*_]*"
    r"(?:is|are|equals|becomes|remains|must be|should (?:actually |instead )?(?:be|have been)|would "
    r"be|:|=)(?![a-z])[\s*_]*:?",
    re.IGNORECASE,
)
"""What stands behind it is the answer, most surely with `sure`."""
IS_ANSWER = re.compile(
    r"(?:^|\b(?:so|thus|hence|therefore|then|and|that|option|choice|but|,))[\s$*(\\]{0,4}(?P<value>[^\s,;:]{1,40}) is "
    rf"(?:indeed |therefore |thus |actually )?(?:the|our|my) (?:{_OWN} )*(?:answer|choice|option)\b|"
    r"\b(?:option|choice) \(?(?P<letter>[A-H])\)? is (?:correct|right)\b",
    re.IGNORECASE,
)
_HIMSELF = (
    r"(?:it|that|this|which|(?:the|my|our|this|that) (?:(?:final|boxed|above|previous|first|initial) )?"
    r"(?:answer|result|value|box|solution)(?: (?:(?:given |stated )?above|(?:that )?i gave|in the box))?)"
)
"""Words that can mean the answer."""
CORRECTS = re.compile(
    r"(?:^\W*(?:(?:no|wait|actually|correction|sorry|oops|whoops|hmm+|rather)\b[\s,.:!\u2014-]*)+|"
    rf"\b{_I_CORRECT}\b[^.:]{{0,40}}:\s*|\bi(?:'d|'ll| would| will) (?:rather )?(?:say|go with|answer)\b)"
    r"(?:(?:it|that|this)(?:'s|\u2019s| is| was| should be| must be)\b)?",
    re.IGNORECASE,
)
SHOULD_BE = re.compile(
    rf"\b(?:i should have (?:gotten|got|said|written)|{_HIMSELF} (?:actually |instead |really )?should "
    r"(?:actually |instead |really )?(?:be|have been|read|contain|say|hold))\b",
    re.IGNORECASE,
)
COULD_BE = re.compile(
    rf"\b{_HIMSELF} (?:could|might|may)(?: also| as well| instead)? be\b|"
    r"^(?:it\b)?\W*(?:or|alternatively)\b,? (?:maybe|perhaps|possibly)\b",
    re.IGNORECASE,
)
IS_NOT = re.compile(
    rf"\banswers?\s+(?:(?:is|are|was)(?:{_N_T}| not)|can(?:not|'t|\u2019t| not) be|could(?:{_N_T}| not) be)",
    re.IGNORECASE,
)

_RIGHT = "(?:quite |the )?(?:right|correct|possible|true|valid|answer)"
IS_WRONG = re.compile(
    r"(?:(?:'s|\u2019s| is| was| seems| looks| appears| must be| has to be| turns out to be)"
    r"(?: (?:clearly|obviously|actually|simply|definitely|probably|to be|just|still|also|certainly)){0,2} "
    r"(?:wrong|incorrect|false|mistaken|impossible|a mistake|an error|too (?:large|small|big|high|low|many|few|much)|"
    rf"not {_RIGHT})|(?: is| was){_N_T} {_RIGHT}|"
    rf" (?:can(?:not|'t|\u2019t| not)|could(?: not|{_N_T})) be (?:right|correct|true|the answer|it)|"
    rf" (?:does|did)(?: not|{_N_T}) (?:work|hold|make sense|add up|fit|look right|seem right|satisfy)| contradicts)"
    r"\b(?! (?:to|that|of|for|when|if)\b)",  # "it is wrong to …" is not about the answer
    re.IGNORECASE,
)
CALLED_WRONG = re.compile(rf"\b(?P<subject>{_HIMSELF}){IS_WRONG.pattern}", re.IGNORECASE)
WITHDRAWN = re.compile(
    r"\b(?:scratch that|w?h?oops|on (?:second thoughts?|reflection)|my (?:mistake|bad|error)|"
    r"(?:i|we) (?:was|were|am|are) (?:wrong|mistaken)(?! (?:at first|before|earlier|initially))|"
    r"(?:i|we) (?:have |had )?(?:made|make) an? (?:\w+ )?(?:mistake|error)(?! in (?:the|my) "
    r"(?:first|initial|previous|earlier))|"
    r"there (?:is|was) an? (?:\w+ )?(?:mistake|error) in (?:my|our)|"
    r"(?:i|we) (?:have |had "
    r")?(?:misread|miscounted|miscalculated|misunderstood|misinterpreted|mistook|overlooked|forgot|forgotten)"
    r"(?![^.!?]{0,60} (?:at first|before|earlier|initially)\b)|"
    rf"i (?:take (?:it|that) back|retract)|{_I_CORRECT} (?:that|this|my|it|the answer)|"
    r"(?:disregard|ignore) (?:that|this|it|the above|my|the (?:answer|box)|what))\b|^\W*correction\b",
    re.IGNORECASE,
)
DOUBTS = re.compile(
    r"\bwait\b(?=\s*(?:[,.!?:;\u2026\u2014-]|$)|\s+(?:no|that|i|but|let|is|it|actually|this|we|a "
    r"(?:minute|second|moment))\b)|"
    r"\b(?:hold on|hang on|hmm+)\b|^\W*(?P<no>no)\b[,.!\u2014](?! there (?:is|are) no (?:other|more|further)\b)",
    re.IGNORECASE,
)
ACTUALLY = re.compile(r"^\W*actually\b", re.IGNORECASE)
ANNOUNCES = re.compile(
    r"\b(?:let me|let's|let us|i(?:'ll| will| should| need to| want to)|should i|to)(?: (?:just|quickly|now))?"
    r"(?: (?:double|re)[- ]?)? ?(?:check|recheck|verify|confirm|make sure|recalculate|see|think|look)\b"
    r"(?: (?:that|this|it|again|once more|my work))*",
    re.IGNORECASE,
)
"""A check that is to come, which says nothing yet."""
CONFIRMS = re.compile(
    r"\b(?:yes|yep|confirm(?:s|ed)?|verified|checks? out|makes sense|consistent|"
    r"(?:is|are|was|looks|seems|'s)(?: \w+)? (?:right|correct|fine|good)|"
    r"(?:it|that|this|everything) (?:works|holds|matches|fits)|matches|as (?:expected|required|desired)|stands)\b|"
    r"^\W*(?:right|correct|good|great|fine|ok|okay)\W*$|[\u2713\u2714\u2705]",
    re.IGNORECASE,
)
DENIES = re.compile(rf"\b(?:not|never|cannot|nor|incorrect|wrong)\b|{_N_T}\b", re.IGNORECASE)
RESULT = re.compile(
    r"(?:=|\u2248|\b(?:is|are|be|get|gets|gives|equals|yields|remains|still|have|makes)\b)[\s:*]*(?P<value>[^=\n]{1,80}?)"
    r"(?=[\s.*!]*$|,|\s(?:because|since)\b)",
    re.IGNORECASE,
)
"""A value that a sentence comes to."""

IMAGINED = re.compile(
    r"\b(?:if|when|whenever|unless|whether|suppos\w+|assum\w+|would|might|otherwise|what "
    r"about|try|trying|testing|considering|"
    r"choosing|taking|students?|people|someone|somebody|others|they|whoever|"
    r"(?:you|one|many|some) "
    r"(?:may|could|might|will|would|often|think|say|believe|forget|get|guess)\w*|tempt\w+|trap|pitfalls?|"
    r"misconception|(?:common|frequent|typical|usual|classic|easy|another|one) (?:mistake|error)s?|(?:mistake|error) "
    r"(?:is|would)|"
    r"without|hope|doubt|options?|choices?|earlier|previously|initially|at first|originally|i (?:said|thought|wrote)|"
    r"(?:first|initial|previous|original|given) (?:attempt|try|solution|approach)|the attempt)\b|"
    r"^\W*\(?(?-i:[A-H])\)?[:.)]\s|n['\u2019]t (?:think|believe)",
    re.IGNORECASE,
)
"""Words that make what follows one of a case that is not, of another choice, of before, or of somebody else."""
SO = re.compile(r".*(?:\b(?:so|therefore|thus|hence|but|however)\b|;(?! otherwise))", re.IGNORECASE)
"""Up to where a new thought begins."""

ASIDE = re.compile(
    r"[\s#*_>(\d.)-]*(?:let(?:'s| us| me) )?(?:double[- ]?|sanity "
    r")?(?:check|verif\w*|explanation|explaining|notes?|confidence|"
    r"reasoning|justification|remark|proof|alternative\w*|another|why|details?|working)\b",
    re.IGNORECASE,
)
HEADING = re.compile(r"#{1,6}\s.*|\*\*[^*]{1,80}\*\*:?|[^.!?=]{1,60}:")
ANNOUNCED = re.compile(
    r"(\banswers?)(?: is| are)[*_: ]{0,6}\n+|^([#*_ ]{0,6}(?:the )?(?:final |correct )?answer)[*_: ]{0,6}\n+",
    re.IGNORECASE | re.MULTILINE,
)
"""An answer that stands on the next line."""
_SPEAKER = r"\n[ \t]{0,4}(?:Human|User|Assistant|Question|Problem|Q|Instruction)\b ?\d{0,4}:"
NEXT_TURN = re.compile(rf"<\||{_SPEAKER}")
"""Where a model goes on with a conversation or an exercise of its own making."""
TURN_ENDS = re.compile(rf"<\|(?:im_end|im_start|endoftext|end_of_text|eot_id)\|>|</s>|{_SPEAKER}")
"""The same where the control tokens of one message, such as those between its channels, do not count."""

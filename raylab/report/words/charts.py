"""Titles of axes and captions of figures: English, Japanese."""

from __future__ import annotations

CHARTS: dict[str, tuple[str, str]] = {
    "caption.floor": (
        "{model}: how far two recipes that differ in one factor are apart at like seeds, as a multiple of how far two seeds of either are. Left of the line another seed makes more of a difference than the factor.",
        "{model}：一つの要因が異なるレシピ間の距離（同じシード）を、同じレシピのシード間の距離の倍数で示す。線より左では、要因よりもシードの違いの方が大きい。",
    ),
    "caption.seeds": (
        "{model}: L2 norm of the difference of each data pair, by seed.",
        "{model}：各データの組の差分の L2 ノルム（シード別）。",
    ),
    "caption.attribution": (
        "{model}: share of the variance of {response:word} that goes with each factor, as a whole and by place. Factors that the study cannot tell apart share a colour.",
        "{model}：{response:word}の分散のうち各要因に対応する割合（全体と場所別）。分離できない要因は一色で示す。",
    ),
    "caption.similarity": (
        "{model}: cosine of the task vectors of every two models, in the order of their clustering; on the left what each of them is.{left}",
        "{model}：すべてのモデル対のタスクベクトルのコサイン（クラスタリング順）。左端は各モデルの手法・データ・シード。{left}",
    ),
    "caption.signs": (
        "{model}: share of the entries, both non-zero, whose signs agree; one half is chance.{left}",
        "{model}：ともに非ゼロの要素のうち符号が一致する割合。偶然なら 0.5。{left}",
    ),
    "caption.overlap": (
        "{model}: how many times more than by chance the largest entries of two models are the same ones, at the study's smallest density.{left}",
        "{model}：最小の密度で、二つのモデルの最大要素が偶然の何倍重なるか。{left}",
    ),
    "caption.similarity.recipes": (
        " Means over seeds, for there are {models:count} models.",
        "モデルが {models:count} 個あるため、シード間の平均を示す。",
    ),
    "caption.heatmap": (
        "{model}: {measure:measure} by layer and module kind, the mean over seeds; choose a recipe or a difference of two. This one is {label}.",
        "{model}：層とモジュール別の{measure:measure}（シード平均）。レシピまたは差分を選べます。表示中：{label}。",
    ),
    "caption.curve": (
        "{model}: share of a norm in the largest entries, {shown:count} of {total:count} curves (one seed); points are the study's densities, dots what independent normal entries would give. This one is {norm}.",
        "{model}：大きい方からの要素に含まれるノルムの割合（{total:count} 本中 {shown:count} 本、シード一つ）。点は研究の密度、点線は独立な正規分布の場合。表示中：{norm}。",
    ),
    "caption.chains": (
        "{model}: L2 of what the parent did, of what the child added and of the whole.",
        "{model}：親の変化、子の追加分、全体の L2。",
    ),
    "caption.paths": (
        "{model}: norm of each layer along the training, as a share of its last; choose a recipe. This one is {label}.",
        "{model}：学習中の各層のノルム（最終値に対する割合）。レシピを選べます。表示中：{label}。",
    ),
    "chart.cut": (
        "{shown:count} of {total:count} are shown.",
        "{total:count} 件中 {shown:count} 件を表示。",
    ),
    "axis.ratio": ("times as far as another seed", "シード間距離の倍数"),
    "axis.l2": ("L2 norm of the difference", "差分の L2 ノルム"),
    "axis.l2_part": ("L2 norm", "L2 ノルム"),
    "axis.share": ("share of variance", "分散の割合"),
    "axis.layer": ("layer", "層"),
    "axis.kind": ("module kind", "モジュールの種類"),
    "axis.cosine": ("cosine", "コサイン"),
    "axis.sign_agreement": ("share of signs that agree", "符号の一致率"),
    "axis.over_chance": ("overlap over chance", "重なり／偶然"),
    "axis.mark": ("is", "種別"),
    "axis.kept": ("largest entries kept", "大きい方から保持した割合"),
    "axis.norm_share": ("share of the norm", "ノルムの割合"),
    "axis.step": ("step", "ステップ"),
    "axis.path": ("norm / last norm", "ノルム／最終ノルム"),
    "legend.seed": ("seed", "シード"),
    "legend.factor": ("factor", "要因"),
    "legend.part": ("part", "部分"),
    "legend.comparison": ("difference", "差分"),
    "legend.layer": ("layer", "層"),
    "choose": ("show", "表示"),
    "part.l2_parent": ("parent", "親"),
    "part.l2_child": ("child", "子"),
    "part.l2": ("whole", "全体"),
    "place.all": ("all", "全体"),
    "normal": ("normal entries", "正規分布"),
    "measure.relative_l2": ("L2 relative to the base's weights", "ベースの重みに対する相対 L2"),
    "measure.l2": ("L2 norm", "L2 ノルム"),
}

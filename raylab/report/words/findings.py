"""The sentences of findings: English, Japanese."""

from __future__ import annotations

FINDINGS: dict[str, tuple[str, str]] = {
    # What sentences are made of.
    "factor.method": ("method", "手法"),
    "factor.data": ("data", "データ"),
    "factor.seed": ("seed", "シード"),
    "factor.learning_rate": ("learning rate", "学習率"),
    "factor.parent": ("parent", "親モデル"),
    "factor.residual": ("left over", "残差"),
    "factor.unassigned": ("not told apart", "分離不能"),
    "word.log_l2": ("log L2", "L2 の対数"),
    "word.log_relative_l2": ("log relative L2", "相対 L2 の対数"),
    "word.cosine": ("cosine", "コサイン"),
    "word.task vector": ("task vectors", "タスクベクトル"),
    "word.difference": ("differences", "差分"),
    "share.with": ("{share:share} with {factor:factor}", "{factor:factor} {share:share}"),
    "seed.value": ("{value:number} (seed {seed})", "{value:number}（シード {seed}）"),
    "seed.missing": ("not measured (seed {seed})", "未測定（シード {seed}）"),
    "list.comma": (", ", "、"),
    "some.more": ("{shown} and {more} more", "{shown} ほか {more} 件"),
    # Is it more than the seed?
    "floor.answer": (
        "How far models move: {far:answers}. Where they end: {place:answers}.",
        "どれだけ動くか：{far:answers}。どこへ動くか：{place:answers}。",
    ),
    "answer.yes": ("yes for {factors:factors}", "{factors:factors}はシードを超える"),
    "answer.no": ("no for {factors:factors}", "{factors:factors}は超えない"),
    "share.little": ("under 0.1 %", "0.1 % 未満"),
    "floor.also": (
        " These recipes also differ in {names:list}.",
        "これらのレシピは {names:list} も異なります。",
    ),
    "answer.partly": ("in part for {factors:factors}", "{factors:factors}は一部で超える"),
    "answer.open": (
        "cannot be told for {factors:factors}, as seeds of one recipe end in nearly unrelated directions",
        "{factors:factors}は判定できない（同じレシピのシードがほぼ無関係な方向に終わるため）",
    ),
    "answer.unknown": ("not measured for {factors:factors}", "{factors:factors}は未測定"),
    "list.semicolon": ("; ", "、"),
    "floor.factor": (
        "How far: {norm:said} Where to: {place:said}{also:also}",
        "移動量：{norm:said}移動先：{place:said}{also:also}",
    ),
    "floor.norm": (
        "{verdicts:verdicts}; norms differ by factors of {low:short} to {high:short}, between seeds by up to {spread:short}.",
        "{verdicts:verdicts}。ノルムの比は {low:short}〜{high:short}、シード間では最大 {spread:short} です。",
    ),
    "floor.norm.unknown": (
        "not known for {total:plural:difference}, for no recipe has a second seed.",
        "二つ目のシードを持つレシピがないため、{total:count} 件の差について不明です。",
    ),
    "floor.place": (
        "{verdicts:verdicts}; {low_unlike:short} to {high_unlike:short} times as far apart at unlike seeds as two seeds of one recipe, {low:short} to {high:short} times at like seeds.",
        "{verdicts:verdicts}。同じレシピの二つのシードに対し、異なるシード間で {low_unlike:short}〜{high_unlike:short} 倍、同じシードで {low:short}〜{high:short} 倍離れています。",
    ),
    "floor.place.unknown": (
        "not known for {total:plural:difference}, for distances in the view delta were not measured.",
        "delta での距離が測定されていないため、{total:count} 件の差について不明です。",
    ),
    "verdict.all": (
        "{verdict} in all of {total:plural:difference}",
        "{total:count} 件の差すべてで{verdict}",
    ),
    "verdict.only": ("{verdict} in the one difference", "一件の差で{verdict}"),
    "verdict.some": (
        "{verdict} in {count:count} of {total:count}",
        "{total:count} 件中 {count:count} 件で{verdict}",
    ),
    "floor.no_difference": (
        "No two recipes differ in one factor alone, so none can be held against the seed.",
        "一つの要因だけが異なるレシピの組がないため、シードと比べられる差がありません。",
    ),
    "floor.nothing": (
        "No model was trained and measured yet.",
        "学習と測定が済んだモデルがまだありません。",
    ),
    "floor.spread": (
        "The first floor, the norm itself: between seeds of a recipe, the largest L2 is {low:number} to {high:number} times the smallest ({recipes:plural:recipe}).",
        "第一の基準（ノルムそのもの）：同じレシピのシード間で、最大の L2 は最小の {low:number}〜{high:number} 倍です（{recipes:count} レシピ）。",
    ),
    "floor.apart": (
        "The second floor, the distance: two seeds of a recipe end {low:rate} to {high:rate} of its own norm apart ({recipes:plural:recipe}).",
        "第二の基準（距離）：同じレシピの二つのシードは、自身のノルムの {low:rate}〜{high:rate} だけ離れて終わります（{recipes:count} レシピ）。",
    ),
    "floor.one_seed": (
        "One seed only: no difference can be told from the seed. A second seed would give the floor.",
        "シードが一つだけのため、どの差もシードによる差と区別できません。もう一つシードを加えると基準が得られます。",
    ),
    # Norms over seeds.
    "seeds.stable": (
        "{pair} at {learning_rate:setting}: stable over seeds, factor {ratio:number}. L2 {l2:seeds}.",
        "{pair}（学習率 {learning_rate:setting}）：シード間で安定しています（{ratio:number} 倍）。L2 {l2:seeds}。",
    ),
    "seeds.varies": (
        "{pair} at {learning_rate:setting}: varies over seeds, factor {ratio:number}. L2 {l2:seeds}.",
        "{pair}（学習率 {learning_rate:setting}）：シード間でばらつきます（{ratio:number} 倍）。L2 {l2:seeds}。",
    ),
    "seeds.seed": (
        "{pair} at {learning_rate:setting}: the seed changes this norm by a factor of {ratio:number}: do not compare methods at this learning rate. L2 {l2:seeds}.",
        "{pair}（学習率 {learning_rate:setting}）：シードだけでノルムが {ratio:number} 倍変わります。この学習率で手法を比べてはいけません。L2 {l2:seeds}。",
    ),
    "seeds.zero": (
        "{pair} at {learning_rate:setting}: the norm is zero for a seed, so there is no factor. L2 {l2:seeds}.",
        "{pair}（学習率 {learning_rate:setting}）：ノルムがゼロのシードがあり、倍率を求められません。L2 {l2:seeds}。",
    ),
    "seeds.one_seed": (
        "{pair} at {learning_rate:setting}: one seed only: its stability is not known. L2 {l2:seeds}.",
        "{pair}（学習率 {learning_rate:setting}）：シードが一つだけのため、安定性は分かりません。L2 {l2:seeds}。",
    ),
    "seeds.some_seeds": (
        "{pair} at {learning_rate:setting}: measured for {measured:count} of {seeds:count} seeds: its stability is not known. L2 {l2:seeds}.",
        "{pair}（学習率 {learning_rate:setting}）：{seeds:count} シード中 {measured:count} シードだけ測定されており、安定性は分かりません。L2 {l2:seeds}。",
    ),
    "seeds.nothing": (
        "No two models measured in the view delta share base model, method, seed, learning rate and parent and differ in data, so there is nothing to say over seeds.",
        "ベースモデル、手法、シード、学習率、親モデルが同じでデータだけが異なり、delta で測定されたモデルの組がないため、シード間については何も言えません。",
    ),
    "seeds.others": (
        "{count:plural:comparison} in the norms table are no data pairs and are not in the two tables.",
        "norms 表の比較のうち {count:count} 件はデータの組ではなく、二つの表には載っていません。",
    ),
    # What goes with what.
    "attribution.shares": (
        "{model}: the variance of {response:word} over {observations:count} observations goes {parts:shares}; {residual:share} is left over{unassigned:unassigned}.",
        "{model}：{observations:count} 件の観測における {response:word} の分散の内訳は、{parts:shares}、残差 {residual:share} です{unassigned:unassigned}。",
    ),
    "attribution.overlap": (
        "; shares overlap by {share:rate}, for the design is not balanced",
        "（計画が釣り合っていないため割合は {share:rate} 重なる）",
    ),
    "attribution.unassigned": (
        "; {share:rate} goes with several together, for the design is not balanced",
        "（計画が釣り合っていないため {share:rate} は複数の要因に共通）",
    ),
    "attribution.saturated": (
        "{model}: the variance of {response:word} over {observations:count} observations goes {parts:shares}; no freedom is left ({residual:rate} left over), so that this is a description, with no interval.",
        "{model}：{observations:count} 件の観測における {response:word} の分散の内訳は、{parts:shares} です。残差の自由度がない（残差 {residual:rate}）ため、記述にとどまり区間はありません。",
    ),
    "attribution.inseparable": (
        "{model}: {factors:factors} cannot be told apart in this study, for one is varied only within a level of the other; their share is given as one.",
        "{model}：{factors:factors} はこの研究では分離できません。一方が他方の一つの水準の中でしか変えられていないため、まとめて一つの割合とします。",
    ),
    "attribution.constant": (
        "{model}: not varied in this study, so that nothing can be said of it: {factors:factors}.",
        "{model}：この研究で変えられていないため何も言えない要因：{factors:factors}。",
    ),
    "attribution.nothing": (
        "Fewer than two models, or no factor that varies: there is no variance to attribute.",
        "モデルが二つ未満か、変えられた要因がないため、帰属すべき分散がありません。",
    ),
    # Which models moved alike.
    "similarity.seeds_together": (
        "{model}: seeds of a recipe stay together: {together:count} of {total:count} models are most like their own recipe at another seed. Mean cosine {recipe:cosine} between seeds of a recipe, {seed:cosine} between recipes of a seed.",
        "{model}：同じレシピのシードはまとまっています。{total:count} モデル中 {together:count} モデルが、別シードの同じレシピに最も似ています。平均コサインは同じレシピのシード間 {recipe:cosine}、同じシードのレシピ間 {seed:cosine} です。",
    ),
    "similarity.seeds_apart": (
        "{model}: seeds of a recipe do not stay together: {together:count} of {total:count} models are most like their own recipe at another seed. Mean cosine {recipe:cosine} between seeds of a recipe, {seed:cosine} between recipes of a seed.",
        "{model}：同じレシピのシードはまとまりません。{total:count} モデル中 {together:count} モデルだけが、別シードの同じレシピに最も似ています。平均コサインは同じレシピのシード間 {recipe:cosine}、同じシードのレシピ間 {seed:cosine} です。",
    ),
    "similarity.apart": (
        "{model}: models cluster apart by {factor:factor} ({levels:count} levels): silhouette {silhouette:cosine}; mean cosine {within:cosine} within, {between:cosine} between.",
        "{model}：モデルは{factor:factor}（{levels:count} 水準）ごとに分かれます。シルエット {silhouette:cosine}、平均コサインは水準内 {within:cosine}、水準間 {between:cosine}。",
    ),
    "similarity.mixed": (
        "{model}: models do not cluster apart by {factor:factor} ({levels:count} levels): silhouette {silhouette:cosine}; mean cosine {within:cosine} within, {between:cosine} between.",
        "{model}：モデルは{factor:factor}（{levels:count} 水準）では分かれません。シルエット {silhouette:cosine}、平均コサインは水準内 {within:cosine}、水準間 {between:cosine}。",
    ),
    "similarity.left_out": (
        "{model}: {count:count} of {total:plural:model} are not in the matrices, for not all of their pairs were measured.",
        "{model}：{total:count} モデル中 {count:count} モデルは、一部の組が未測定のため行列に含まれていません。",
    ),
    "similarity.nothing": (
        "No three models have all of their pairs measured, so there is nothing to cluster.",
        "すべての組が測定されたモデルが三つ未満のため、クラスタリングできません。",
    ),
    # Where they moved.
    "where.kind": (
        "{model}: in {count:count} of {total:plural:recipe} the most of the squared L2 is in {kind} ({low:rate} to {high:rate}).",
        "{model}：{total:count} レシピ中 {count:count} レシピで、L2 の二乗のうち最も大きな割合が {kind} にあります（{low:rate}〜{high:rate}）。",
    ),
    "where.kind_difference": (
        "{model}: in {count:count} of {total:plural:difference} the most of the squared L2 is in {kind} ({low:rate} to {high:rate}).",
        "{model}：{total:count} 件の差分中 {count:count} 件で、L2 の二乗のうち最も大きな割合が {kind} にあります（{low:rate}〜{high:rate}）。",
    ),
    "where.depth": (
        "{model}: the last {late:count} of {layers:plural:layer} hold {low:rate} to {high:rate} of the squared L2.",
        "{model}：{layers:count} 層中の最後の {late:count} 層が、L2 の二乗の {low:rate}〜{high:rate} を占めます。",
    ),
    "where.nothing": (
        "No norms by tensor were measured in the view delta, so there is nothing to say of places.",
        "delta でテンソルごとのノルムが測定されていないため、場所については何も言えません。",
    ),
    # How concentrated.
    "concentration.half": (
        "{count:count} {what:word}: half of L2 is in the largest {low:rate} to {high:rate} of entries; for independent normal entries it would be {normal:rate}.",
        "{what:word}（{count:count} 件）：L2 の半分が、大きい方から {low:rate}〜{high:rate} の要素にあります。独立な正規分布なら {normal:rate} です。",
    ),
    "concentration.rank": (
        "The mean effective rank of a tensor's delta is {low:number} to {high:number}, of at most {rank:count}.",
        "テンソルの差分の平均実効ランクは {low:number}〜{high:number}（上限 {rank:count}）です。",
    ),
    "concentration.nothing": (
        "No curve was measured in the view delta, so there is nothing to say of concentration.",
        "delta での曲線が測定されていないため、集中度については何も言えません。",
    ),
    # Chained trials.
    "chains.added": (
        "In {count:plural:chained trial} the child's part is {low:rate} to {high:rate} of its parent's in L2.",
        "連鎖した {count:count} 件の学習で、子の変化量（L2）は親の {low:rate}〜{high:rate} です。",
    ),
    "chains.angle": (
        "The child goes at {low:degrees} to {high:degrees} to its parent; {back:count} of {count:count} turn back (over 100°), and at most {lost:rate} of the two lengths cancels.",
        "子は親に対して {low:degrees}〜{high:degrees} の向きに進みます。{count:count} 件中 {back:count} 件が逆行（100° 超）し、打ち消しは最大 {lost:rate} です。",
    ),
    "chains.nothing": (
        "The study has no chained trial that was measured.",
        "測定された連鎖学習はありません。",
    ),
    # Along the way.
    "paths.straight": (
        "{model}: in {count:plural:trial} the way is {low:number} to {high:number} times as long as what is left of it at the end.",
        "{model}：{count:count} 件の学習で、経路の長さは最終的な変位の {low:number}〜{high:number} 倍です。",
    ),
    "paths.first": (
        "{model}: {layer} is the first to reach half of its final norm in {count:count} of {total:plural:trial}.",
        "{model}：{total:count} 件中 {count:count} 件で、{layer} が最初に最終ノルムの半分に達します。",
    ),
    "paths.part": (
        "{model}: seeds of a recipe have parted (cosine below one half) from {low:rate} to {high:rate} of the steps on ({count:plural:recipe}).",
        "{model}：同じレシピのシードは、全ステップの {low:rate}〜{high:rate} までに分かれます（コサイン 0.5 未満、{count:count} レシピ）。",
    ),
    "paths.together": (
        "{model}: in {count:plural:recipe} some seeds have not parted by the end (their cosine is above one half).",
        "{model}：{count:count} レシピでは、最後まで分かれていないシードがあります（コサイン 0.5 以上）。",
    ),
    "paths.nothing": ("No training's path was recorded.", "経路は記録されていません。"),
    # Trust.
    "trust.done": (
        "All {total:plural:trial} are done.",
        "{total:count} 件の学習はすべて完了しています。",
    ),
    "trust.undone": (
        "{undone:count} of {total:plural:trial} are not done ({failed:count} failed, {blocked:count} blocked): findings are of the rest.",
        "{total:count} 件の学習のうち {undone:count} 件が未完了です（失敗 {failed:count}、中止 {blocked:count}）。以下は残りについての結果です。",
    ),
    "trust.marked": (
        "{count:count} of {total:plural:model} are marked, for their answers fall short: {names:some}.",
        "{total:count} モデル中 {count:count} モデルは、回答に問題があるため印が付いています：{names:some}。",
    ),
    "trust.merged": (
        "Merging into the base model's dtype would change {count:plural:task vector} by {low:rate} to {high:rate} of their norm, and turn up to {zeros:rate} of their entries into zeros.",
        "ベースモデルの型へ統合すると、{count:count} 件のタスクベクトルはノルムの {low:rate}〜{high:rate} だけ変わり、最大 {zeros:rate} の要素がゼロになります。",
    ),
    "trust.dequantized": (
        "Read off 4-bit weights, {count:plural:task vector} would be wrong by {low:rate} to {high:rate} of their norm, with up to {zeros:rate} of their entries zero.",
        "4 ビットの重みから読み取ると、{count:count} 件のタスクベクトルはノルムの {low:rate}〜{high:rate} だけずれ、最大 {zeros:rate} の要素がゼロになります。",
    ),
    "trust.counted": (
        "{model}: all {comparisons:plural:comparison} are over the same {numel:count} entries ({universe}).",
        "{model}：{comparisons:count} 件の比較はすべて同じ {numel:count} 要素（{universe}）についてのものです。",
    ),
    "trust.unequal": (
        "{model}: {comparisons:plural:comparison} are over {low:count} to {high:count} entries; L1 and L2 of unlike numbers of entries are not alike.",
        "{model}：{comparisons:count} 件の比較は {low:count}〜{high:count} 要素にわたり、要素数の異なる L1・L2 は同列に扱えません。",
    ),
    # What findings rest on.
    "caveat.marked": (
        "This rests on {count:count} of {total:plural:model} that are marked, for their answers fall short: {names:some}.",
        "この結果は、印の付いたモデル（{total:count} 中 {count:count}）に依拠しています：{names:some}。",
    ),
    "caveat.one_seed": (
        "This rests on one seed ({seed}).",
        "この結果は一つのシード（{seed}）に依拠しています。",
    ),
}

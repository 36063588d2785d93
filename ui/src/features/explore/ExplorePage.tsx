import { Button } from "@mantine/core";
import { Icon } from "../../components/icons";
import { useT } from "../../i18n/i18n";
import { useSearchParams } from "wouter";
import { decodePanels, emptyPanel, encodePanels, type Panel } from "../../lib/exploreUrl";
import { ExploreTabs } from "./ExploreTabs";
import { ExplorePanel } from "./ExplorePanel";

export default function ExplorePage() {
  const { t } = useT();
  const [params, setParams] = useSearchParams();
  const panels = decodePanels(params);
  const update = (next: Panel[]) => setParams(encodePanels(next.length ? next : [emptyPanel()]));
  return (
    <ExploreTabs
      here="/explore"
      actions={
        <Button
          variant="default"
          leftSection={<Icon name="plus" size={16} />}
          onClick={() => update([...panels, emptyPanel()])}
        >
          {t("explore.add")}
        </Button>
      }
    >
      {panels.map((p, i) => (
        <ExplorePanel
          key={i}
          panel={p}
          onChange={(change) => update(panels.map((x, j) => (j === i ? { ...x, ...change } : x)))}
          onRemove={panels.length > 1 ? () => update(panels.filter((_, j) => j !== i)) : undefined}
        />
      ))}
    </ExploreTabs>
  );
}

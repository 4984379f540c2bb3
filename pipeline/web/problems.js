// What a processor says of a workflow or of parameters, taken apart: which words belong to which node and which input.

const AT_NODE = /node (\S+?) \(([^)]*)\)(?:: input (\w+))?: |nodes\.([^\s:]+): |node (\S+?): /g;

/** [{node, input, text}, ...]; `node` and `input` are empty where the words name none. `names` are of parameters that
 *  belong to no node. */
export function located(text, names = []) {
  const found = [...text.matchAll(AT_NODE)];
  if (!found.length) return [{ node: "", input: names.find((name) => isNamed(text, name)) ?? "", text }];
  return found.map((match, number) => ({
    node: match[1] ?? match[4] ?? match[5],
    input: match[3] ?? "",
    text: text.slice(match.index, found[number + 1]?.index).replace(/[;\s]+$/, ""),
  }));
}

const isNamed = (text, name) =>
  new RegExp(`(^|[\\s:'"\`.])${RegExp.escape?.(name) ?? escaped(name)}['"\`]?(:|$|\\s)`).test(text);

const escaped = (name) => name.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");

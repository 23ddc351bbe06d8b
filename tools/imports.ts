// Lists what a TypeScript file imports, with the TypeScript parser: no comment or string is mistaken for an import.
import ts from "typescript";

/** One import of a file. `kind`: "value" runs the other module first, "type" is erased, "lazy" is a call of import(). */
export interface Import {
  readonly specifier: string;
  readonly kind: "value" | "type" | "lazy";
  readonly line: number;
}

/** Kind and module name when `node` imports something, else null. */
function importOf(node: ts.Node): { kind: Import["kind"]; name: ts.Node } | null {
  if (ts.isImportDeclaration(node)) return { kind: node.importClause?.isTypeOnly ? "type" : "value", name: node.moduleSpecifier };
  if (ts.isExportDeclaration(node) && node.moduleSpecifier) return { kind: node.isTypeOnly ? "type" : "value", name: node.moduleSpecifier };
  if (ts.isImportTypeNode(node) && ts.isLiteralTypeNode(node.argument)) return { kind: "type", name: node.argument.literal };
  if (ts.isCallExpression(node) && node.expression.kind === ts.SyntaxKind.ImportKeyword && node.arguments[0]) {
    return { kind: "lazy", name: node.arguments[0] };
  }
  return null;
}

/** Every import, export-from, import type and import() of `source` whose module name is a literal, in order. */
export function importsOf(fileName: string, source: string): Import[] {
  const file = ts.createSourceFile(fileName, source, ts.ScriptTarget.Latest);
  const found: Import[] = [];
  const visit = (node: ts.Node): void => {
    const hit = importOf(node);
    if (hit && ts.isStringLiteralLike(hit.name)) {
      const line = file.getLineAndCharacterOfPosition(node.getStart(file)).line + 1;
      found.push({ specifier: hit.name.text, kind: hit.kind, line });
    }
    ts.forEachChild(node, visit);
  };
  visit(file);
  return found;
}

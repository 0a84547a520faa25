import ca.uhn.fhir.context.FhirContext;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.Map;

/**
 * HAPI FHIR as a judge, in one process for a whole run. Each line of its input is a command and its argument: `validate`
 * and a resource in JSON, or `client`, the base address of a server and a bearer token. It answers each with one line, a
 * JSON list: of the errors that the validator found, or of what the client did and how it went. Its arguments are files
 * with profiles to validate by.
 */
final class Judge {
  public static void main(String[] files) throws Exception {
    // Libraries print to the standard output, which is for answers here.
    PrintStream answers = new PrintStream(System.out, true, StandardCharsets.UTF_8);
    System.setOut(System.err);
    FhirContext context = FhirContext.forR4();
    Validator validator = new Validator(context, files);
    ObjectMapper json = new ObjectMapper();
    BufferedReader commands = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    for (String line = commands.readLine(); line != null; line = commands.readLine()) {
      String[] words = line.split(" ", 2);
      List<?> answer;
      try {
        answer =
            switch (words[0]) {
              case "validate" -> validator.errorsOf(words[1]);
              case "client" -> new Client(context, words[1].split(" ")).steps();
              default -> throw new IllegalArgumentException("unknown command: " + words[0]);
            };
      } catch (Exception error) {
        error.printStackTrace();
        answer = List.of(Map.of("where", words[0], "message", String.valueOf(error)));
      }
      answers.println(json.writeValueAsString(answer));
    }
  }
}
